#include "audio_ogg.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "audio_bytes.h"
#include "audio_opus_packet.h"
#include "error.h"

namespace vg {
namespace {

constexpr int MAX_OPUS_CHANNELS = 32;
constexpr size_t MAX_HEADER = size_t(1) << 24;  // bytes of a header packet: comments may hold a picture
constexpr uint64_t MAX_GRANULE = uint64_t(1) << 62;
constexpr size_t OPUS_BYTES_A_CHANNEL = 32000 * 12 / 100;  // of a packet, what the decoder takes: 120 ms at 256 kbit/s

// --- pages
// -------------------------------------------------------------------------------------------------------------

struct CrcTable {
    uint32_t of[256];

    CrcTable() {
        for (uint32_t i = 0; i < 256; i++) {
            uint32_t r = i << 24;
            for (int bit = 0; bit < 8; bit++) {
                r = (r & 0x80000000U) != 0 ? (r << 1) ^ 0x04c11db7U : r << 1;
            }
            of[i] = r;
        }
    }
};

uint32_t ogg_crc(const uint8_t * page, size_t size) {
    static const CrcTable table;
    uint32_t crc = 0;
    for (size_t i = 0; i < size; i++) {
        uint8_t byte = i >= 22 && i < 26 ? 0 : page[i];  // the checksum's own place counts as zero
        crc = (crc << 8) ^ table.of[((crc >> 24) & 0xFF) ^ byte];
    }
    return crc;
}

// --- packets
// -----------------------------------------------------------------------------------------------------------

// Adds the packets that end on this page; what goes on on the next one stays in `partial`.
bool split_page(ByteWindow & window, const OggPage & page, std::vector<uint8_t> & partial,
                std::vector<std::vector<uint8_t>> & packets) {
    const uint8_t * body = window.at(page.body, size_t(page.end - page.body));
    if (body == nullptr && page.end > page.body) {
        return false;
    }
    for (uint8_t segment : page.segments) {
        partial.insert(partial.end(), body, body + segment);
        body += segment;
        if (segment < 255) {  // a packet ends with a segment that is not full
            packets.push_back(std::move(partial));
            partial.clear();
        }
    }
    return true;
}

bool begins_with(const std::vector<uint8_t> & packet, const char * text) {
    size_t n = std::strlen(text);
    return packet.size() >= n && std::memcmp(packet.data(), text, n) == 0;
}

AudioFormat codec_of(const std::vector<uint8_t> & packet) {
    return begins_with(packet, "\x01vorbis") ? AudioFormat::VORBIS
           : begins_with(packet, "OpusHead") ? AudioFormat::OPUS
                                             : AudioFormat::UNKNOWN;
}

// The second packet of a Vorbis stream, https://xiph.org/vorbis/doc/v-comment.html: lengths that reach past the packet
// would lead stb_vorbis out of its memory.
bool sound_comments(const std::vector<uint8_t> & packet) {
    size_t at = 7;  // behind "\x03vorbis"
    auto skip_text = [&] {
        if (packet.size() < at + 4 || little32(&packet[at]) > packet.size() - at - 4) {
            return false;
        }
        at += 4 + little32(&packet[at]);
        return true;
    };
    if (!begins_with(packet, "\x03vorbis") || !skip_text() || packet.size() < at + 4) {
        return false;
    }
    uint32_t count = little32(&packet[at]);
    at += 4;
    for (uint32_t i = 0; i < count; i++) {
        if (!skip_text()) {
            return false;
        }
    }
    return true;
}

[[noreturn]] void fail_opus(const std::string & what) {
    throw Error("E_AUDIO", "the file " + what,
                "Make it again from its source, or convert it with `ffmpeg -i FILE out.wav`.");
}

OpusHead read_opus_head(const std::vector<uint8_t> & packet) {
    OpusHead head;
    if (packet.size() < 19 || (packet[8] & 0xF0) != 0) {
        fail_opus("has an Opus header that cannot be read");
    }
    head.channels = packet[9];
    head.pre_skip = little16(&packet[10]);
    head.gain = int16_t(little16(&packet[16]));
    const int family = packet[18];
    if (head.channels < 1 || head.channels > MAX_OPUS_CHANNELS) {
        fail_opus("has " + std::to_string(head.channels) + " channels in its Opus header, expected 1 to " +
                  std::to_string(MAX_OPUS_CHANNELS));
    }
    if (family == 0) {
        if (head.channels > 2) {
            fail_opus("has " + std::to_string(head.channels) + " channels in its Opus header without saying which");
        }
        head.streams = 1;
        head.coupled = head.channels - 1;
        for (int i = 0; i < head.channels; i++) {
            head.mapping.push_back(uint8_t(i));
        }
        return head;
    }
    if (family != 1 && family != 255) {
        fail_opus("maps its Opus channels in a way that is not supported (family " + std::to_string(family) + ")");
    }
    if (packet.size() < 21 + size_t(head.channels)) {
        fail_opus("has an Opus header that cannot be read");
    }
    head.streams = packet[19];
    head.coupled = packet[20];
    head.mapping.assign(packet.begin() + 21, packet.begin() + 21 + head.channels);
    bool mapped = std::all_of(head.mapping.begin(), head.mapping.end(),
                              [&](uint8_t to) { return to == 255 || to < head.streams + head.coupled; });
    if (head.streams < 1 || head.coupled > head.streams || head.streams + head.coupled > 255 || !mapped) {
        fail_opus("has an Opus header whose streams and channels do not fit");
    }
    return head;
}

}  // namespace

bool read_ogg_page(ByteWindow & window, uint64_t at, OggPage & page, std::string & problem) {
    const std::string place = std::to_string(at);
    const uint64_t left = window.size() - std::min(at, window.size());
    const uint8_t * header = window.at(at, 27);
    if (left >= 4 && !window.starts_with(at, "OggS")) {
        problem = "is damaged at byte " + place;
        return false;
    }
    if (header == nullptr || left < 27 + size_t(header[26])) {
        problem = "is truncated in the middle of an Ogg page";
        return false;
    }
    const size_t count = header[26];
    header = window.at(at, 27 + count);
    if (header == nullptr) {
        problem = "cannot be read at byte " + place;
        return false;
    }
    page.segments.assign(header + 27, header + 27 + count);
    size_t length = 27 + count;
    for (uint8_t segment : page.segments) {
        length += segment;
    }
    if (left < length) {
        problem = "is truncated in the middle of an Ogg page";
        return false;
    }
    const uint8_t * bytes = window.at(at, length);
    if (bytes == nullptr || ogg_crc(bytes, length) != little32(bytes + 22)) {
        problem = "is damaged: the checksum of the Ogg page at byte " + place + " does not match";
        return false;
    }
    page.at = at;
    page.body = at + 27 + count;
    page.end = at + length;
    page.continued = (bytes[5] & 1) != 0;
    page.first = (bytes[5] & 2) != 0;
    page.last = (bytes[5] & 4) != 0;
    page.granule = little64(bytes + 6);
    page.serial = little32(bytes + 14);
    page.sequence = little32(bytes + 18);
    return true;
}

OggFile inspect_ogg(const ByteSource & source, const std::atomic<bool> & abort) {
    OggFile file;
    ByteWindow window(source);
    OggPage page;
    std::vector<uint8_t> partial;
    std::vector<std::vector<uint8_t>> packets;
    uint32_t serial = 0, sequence = 0;
    size_t headers = 0;  // packets of this link so far, as far as they matter
    bool heard = false;  // behind the headers; a recording that begins in the middle of a broadcast has a gap there
    bool last = false;
    auto problem = [&](const std::string & text) {
        file.problem = text;
        return file;
    };
    for (uint64_t at = 0; at < window.size(); at = page.end) {
        check_abort(abort);
        if (last && !window.starts_with(at, "OggS")) {
            break;  // what follows the last page is not ours
        }
        if (!read_ogg_page(window, at, page, file.problem)) {
            return file;
        }
        const std::string place = std::to_string(at);
        packets.clear();
        if (page.first) {
            if (!file.links.empty() && !last && headers < 2) {
                return problem("holds several streams at once (Ogg with more than sound)");
            }
            partial.clear();
            split_page(window, page, partial, packets);
            AudioFormat codec = packets.empty() ? AudioFormat::UNKNOWN : codec_of(packets[0]);
            if (codec == AudioFormat::UNKNOWN) {
                return problem("is Ogg without Vorbis or Opus audio");
            }
            if (!file.links.empty() && codec != file.format) {
                return problem("changes its codec at byte " + place);
            }
            file.format = codec;
            file.links.push_back({});
            file.links.back().begin = at;
            serial = page.serial;
            headers = 0;
            heard = false;
        } else if (file.links.empty() || last) {
            return problem("is damaged at byte " + place + ": an Ogg stream does not begin at its beginning");
        } else if (page.serial != serial) {
            return problem("holds several streams at once (Ogg with more than sound)");
        } else if (page.sequence != sequence + 1 && heard) {
            return problem("is damaged: Ogg pages are missing before byte " + place);
        } else if (headers < 2) {
            split_page(window, page, partial, packets);
        }
        if (headers < 2) {
            if (headers + packets.size() >= 2 && file.format == AudioFormat::VORBIS &&
                !sound_comments(packets[1 - headers])) {
                return problem("is damaged: the lengths in its Vorbis comments do not fit");
            }
            headers += packets.size();
            if (partial.size() > MAX_HEADER) {
                return problem("has a header of more than " + std::to_string(MAX_HEADER >> 20) + " MiB");
            }
        }
        OggLink & link = file.links.back();
        if (page.granule != NO_GRANULE) {
            if (page.granule != 0 && link.first_granule == NO_GRANULE) {
                link.first_granule = page.granule;
                link.first_end = page.end;
                heard = true;
            }
            link.last_granule = page.granule;
        }
        link.end = page.end;
        sequence = page.sequence;
        last = page.last;
    }
    return last ? file : problem("is truncated: its last Ogg page is missing");
}

// --- Opus
// --------------------------------------------------------------------------------------------------------------

OpusReader::OpusReader(const ByteSource & source, std::vector<OggLink> links)
    : window_(source), links_(std::move(links)) {
    at_ = links_.empty() ? 0 : links_[0].begin;
}

OpusPackets OpusReader::read(uint64_t samples) {
    OpusPackets out;
    const uint64_t wanted = heard_ + samples;
    while (link_ < links_.size() && heard_ < wanted) {
        if (at_ >= links_[link_].end) {
            if (headers_ < 2) {
                fail_opus("is damaged: an Opus stream ends inside its headers");
            }
            link_++;
            headers_ = 0;
            begun_ = false;
            partial_.clear();
            if (link_ < links_.size()) {
                at_ = links_[link_].begin;
            }
            if (!out.lengths.empty()) {
                break;
            }
            continue;
        }
        std::string problem;
        if (!read_ogg_page(window_, at_, page_, problem)) {
            fail_opus(problem);
        }
        at_ = page_.end;
        out.link = link_;
        take_page(out);
    }
    return out;
}

void OpusReader::take_page(OpusPackets & out) {
    std::vector<std::vector<uint8_t>> packets;
    if (page_.continued == partial_.empty()) {
        fail_opus("is damaged: an Opus packet is not continued at byte " + std::to_string(page_.at));
    }
    if (!split_page(window_, page_, partial_, packets)) {
        fail_opus("cannot be read at byte " + std::to_string(page_.at));
    }
    if (partial_.size() > MAX_HEADER) {
        fail_opus("has an Ogg packet of more than " + std::to_string(MAX_HEADER >> 20) + " MiB");
    }
    size_t done = 0;
    for (; done < packets.size() && headers_ < 2; done++, headers_++) {
        if (headers_ == 0) {
            head_ = read_opus_head(packets[done]);
        } else if (!begins_with(packets[done], "OpusTags")) {
            fail_opus("is damaged: its Opus comments are missing");
        }
    }
    packets.erase(packets.begin(), packets.begin() + ptrdiff_t(done));
    if (!packets.empty()) {
        take_audio_page(packets, out);
    }
}

void OpusReader::take_audio_page(const std::vector<std::vector<uint8_t>> & packets, OpusPackets & out) {
    std::vector<uint32_t> samples;
    uint64_t total = 0;
    for (const std::vector<uint8_t> & packet : packets) {
        if (packet.size() > OPUS_BYTES_A_CHANNEL * size_t(head_.channels)) {
            fail_opus("holds an Opus packet of " + std::to_string(packet.size()) + " bytes, more than " +
                      std::to_string(OPUS_BYTES_A_CHANNEL) + " a channel");
        }
        samples.push_back(opus_packet_samples(packet.data(), packet.size(), head_.streams));
        if (samples.back() == 0) {
            fail_opus("is damaged: no Opus packet is in the Ogg page at byte " + std::to_string(page_.at));
        }
        total += samples.back();
    }
    const bool placed = page_.granule != NO_GRANULE;
    if (placed && page_.granule > MAX_GRANULE) {
        fail_opus("is damaged: the Ogg page at byte " + std::to_string(page_.at) + " has an impossible position");
    }
    if (!begun_) {
        // Section 4.3: a recording that was cut begins at a later position than 0.
        position_ = placed && page_.granule > total ? page_.granule - total : 0;
        begin_ = position_ + uint64_t(head_.pre_skip);
        begun_ = true;
    }
    // Section 4.4: on the last page the granule position says where to stop, within that page.
    const uint64_t end = page_.last && placed ? page_.granule : UINT64_MAX;
    for (size_t i = 0; i < packets.size(); i++) {
        const uint64_t stop = position_ + samples[i];
        const uint64_t from = std::clamp(begin_, position_, stop);
        const uint64_t to = std::max(from, std::clamp(end, position_, stop));
        out.bytes.insert(out.bytes.end(), packets[i].begin(), packets[i].end());
        out.lengths.push_back(uint32_t(packets[i].size()));
        out.from.push_back(uint32_t(from - position_));
        out.to.push_back(uint32_t(to - position_));
        heard_ += to - from;
        position_ = stop;
    }
}

}  // namespace vg
