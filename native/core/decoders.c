/* The single-file decoders of the carrier, compiled here once: miniaudio without devices or an engine, and stb_vorbis. */
#define MINIAUDIO_IMPLEMENTATION
#include "miniaudio_parts.h"

#define STB_VORBIS_NO_PUSHDATA_API
#define STB_VORBIS_NO_STDIO
#include "stb_vorbis.c"
