// A FILE of the C library over a source, for a decoder that takes nothing else. It has a position of its own: a
// descriptor that was duplicated would share its position with every other reader of the file.
#pragma once

#include <cstdint>
#include <cstdio>

#include "audio_source.h"

namespace vg {

class AudioFile {
  public:
    // source: outlives this
    explicit AudioFile(const ByteSource & source) : source_(source) {}
    ~AudioFile();
    AudioFile(const AudioFile &) = delete;
    AudioFile & operator=(const AudioFile &) = delete;

    // The file at this byte, the same at each call. Throws vg::Error("E_AUDIO").
    FILE * open(uint64_t at);
    // Whether a read found nothing before the end that the source had when it was opened.
    bool cut_short() const { return cut_short_; }

    // For the callbacks of the C library.
    int64_t read(char * out, size_t n);
    int64_t seek(int64_t offset, int whence);  // the new position, as in a file also behind the end; -1: none

  private:
    const ByteSource & source_;
    FILE * file_ = nullptr;
    uint64_t at_ = 0;
    bool cut_short_ = false;
};

}  // namespace vg
