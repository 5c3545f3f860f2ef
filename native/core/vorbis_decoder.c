/* stb_vorbis of the carrier, compiled once; audio.cpp sees its declarations. */
#define STB_VORBIS_NO_PUSHDATA_API
#include "stb_vorbis.c"
