#ifndef _GNU_SOURCE
#define _GNU_SOURCE  // fopencookie
#endif
#include "audio_file.h"

#include <string>

#include "error.h"

namespace vg {
namespace {

// glibc and musl have fopencookie; macOS and the BSDs funopen.
#ifdef __linux__
FILE * open_over(AudioFile * self) {
    cookie_io_functions_t functions = {};
    functions.read = [](void * self, char * out, size_t n) {
        return ssize_t(static_cast<AudioFile *>(self)->read(out, n));
    };
    functions.seek = [](void * self, auto * offset, int whence) {
        const int64_t at = static_cast<AudioFile *>(self)->seek(*offset, whence);
        *offset = at < 0 ? *offset : at;
        return at < 0 ? -1 : 0;
    };
    return ::fopencookie(self, "rb", functions);
}
#else
FILE * open_over(AudioFile * self) {
    return ::funopen(
        self, [](void * self, char * out, int n) { return int(static_cast<AudioFile *>(self)->read(out, size_t(n))); },
        nullptr,
        [](void * self, fpos_t offset, int whence) {
            return fpos_t(static_cast<AudioFile *>(self)->seek(int64_t(offset), whence));
        },
        nullptr);
}
#endif

}  // namespace

AudioFile::~AudioFile() {
    if (file_ != nullptr) {
        std::fclose(file_);
    }
}

FILE * AudioFile::open(uint64_t at) {
    if (file_ == nullptr) {
        file_ = open_over(this);
    }
    if (file_ == nullptr) {
        throw Error("E_AUDIO", "the file cannot be read: no stream could be opened");
    }
    std::clearerr(file_);
    if (std::fseek(file_, long(at), SEEK_SET) != 0) {
        throw Error("E_AUDIO", "the file cannot be read at byte " + std::to_string(at));
    }
    return file_;
}

int64_t AudioFile::read(char * out, size_t n) {
    const size_t got = source_.read(at_, out, n);
    cut_short_ = cut_short_ || (got == 0 && n > 0 && at_ < source_.size());
    at_ += got;
    return int64_t(got);
}

int64_t AudioFile::seek(int64_t offset, int whence) {
    constexpr int64_t FARTHEST = int64_t(1) << 48;
    const int64_t from = whence == SEEK_SET ? 0 : whence == SEEK_CUR ? int64_t(at_) : int64_t(source_.size());
    if (offset < -FARTHEST || offset > FARTHEST || from + offset < 0 || from + offset > FARTHEST) {
        return -1;
    }
    at_ = uint64_t(from + offset);
    return from + offset;
}

}  // namespace vg
