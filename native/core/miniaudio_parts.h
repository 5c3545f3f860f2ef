/* miniaudio cut down to its decoders. Every file that includes it must see the same parts. */
#pragma once

#define MA_NO_DEVICE_IO
#define MA_NO_ENCODING
#define MA_NO_ENGINE
#define MA_NO_GENERATION
#define MA_NO_NODE_GRAPH
#define MA_NO_RESOURCE_MANAGER
#define MA_NO_THREADING
#include "miniaudio.h"
