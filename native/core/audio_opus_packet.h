// The outer structure of an Opus packet, RFC 6716, section 3.
#pragma once

#include <cstddef>
#include <cstdint>

namespace vg {

// Samples at 48 kHz that the packet of `streams` streams decodes to; 0 for one that breaks a rule of section 3.4 or
// whose streams last differently long. All streams but the last are self-delimited (appendix B).
uint32_t opus_packet_samples(const uint8_t * packet, size_t size, int streams);

}  // namespace vg
