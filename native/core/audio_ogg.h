// Ogg (RFC 3533) with Vorbis or Opus (RFC 7845): the logical streams of a file, one after another, and Opus packets
// with the part of each that is to be heard.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>
#include <vector>

#include "audio_containers.h"
#include "audio_source.h"

namespace vg {

struct OggPage {
    uint64_t at = 0;  // of its first byte
    uint64_t body = 0;
    uint64_t end = 0;
    bool continued = false, first = false, last = false;
    uint64_t granule = 0;
    uint32_t serial = 0, sequence = 0;
    std::vector<uint8_t> segments;
};

constexpr uint64_t NO_GRANULE = UINT64_MAX;  // no packet ends on the page

// One logical stream of a chained file. Bytes [begin, end) are an Ogg file of their own.
struct OggLink {
    uint64_t begin = 0, end = 0;
    uint64_t first_granule = NO_GRANULE;  // of the first page with audio that has one
    uint64_t last_granule = 0;
    uint64_t first_end = 0;  // where that first page ends in the file
};

struct OggFile {
    AudioFormat format = AudioFormat::UNKNOWN;
    std::string problem;  // as in AudioContainer
    std::vector<OggLink> links;
};

// Every page's checksum is verified: stb_vorbis does not, and a damaged setup header is where it can be led astray.
// Throws vg::Error("E_ABORTED").
OggFile inspect_ogg(const ByteSource & source, const std::atomic<bool> & abort);

// The first page at `at`; false with a problem where there is none that is whole and undamaged.
bool read_ogg_page(ByteWindow & window, uint64_t at, OggPage & page, std::string & problem);

// RFC 7845, section 5.1
struct OpusHead {
    int channels = 0;
    int pre_skip = 0;  // samples at 48 kHz
    int gain = 0;      // dB · 256
    int streams = 0, coupled = 0;
    std::vector<uint8_t> mapping;  // [channels]
};

// Packets in their order, all of one link.
struct OpusPackets {
    size_t link = 0;
    std::vector<uint8_t> bytes;
    // Of each packet: its length in bytes, and the samples [from, to) at 48 kHz of what it decodes to that are heard.
    std::vector<uint32_t> lengths, from, to;
};

// Reads Opus packets one link after another. Whatever is wrong with a packet is found here, so that the decoder sees
// only packets that RFC 6716, section 3.4, allows.
class OpusReader {
  public:
    OpusReader(const ByteSource & source, std::vector<OggLink> links);

    // Packets of one link with at least `samples` samples at 48 kHz in all; fewer at the end of a link, none at the end
    // of the file. Throws vg::Error("E_AUDIO").
    OpusPackets read(uint64_t samples);
    // Valid once the first packets of the link were read.
    const OpusHead & head() const { return head_; }
    uint64_t heard() const { return heard_; }  // samples at 48 kHz of the packets so far

  private:
    void take_page(OpusPackets & out);
    void take_audio_page(const std::vector<std::vector<uint8_t>> & packets, OpusPackets & out);

    ByteWindow window_;
    std::vector<OggLink> links_;
    size_t link_ = 0;
    uint64_t at_ = 0;
    OggPage page_;
    std::vector<uint8_t> partial_;  // a packet that goes on on the next page
    int headers_ = 0;               // header packets of this link that have been read
    bool begun_ = false;            // an audio page of this link was read
    uint64_t position_ = 0;         // granule position of the next sample
    uint64_t begin_ = 0;            // granule position of the first sample that is heard
    OpusHead head_;
    uint64_t heard_ = 0;
};

}  // namespace vg
