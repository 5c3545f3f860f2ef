#include "whisper_tries.h"

#include <algorithm>
#include <charconv>
#include <system_error>

namespace vg {
namespace {

// What is left of a line to read. Each take() removes what it finds at the beginning, and tells whether it was there.
class Line {
  public:
    explicit Line(std::string_view text) : rest_(text) {}

    bool take(std::string_view expected) {
        if (rest_.substr(0, expected.size()) != expected) {
            return false;
        }
        rest_.remove_prefix(expected.size());
        return true;
    }

    // A whole number, spaces before it.
    bool take(int64_t & number) {
        const size_t digits = rest_.find_first_not_of(' ');
        if (digits == std::string_view::npos) {
            return false;
        }
        const char * end = rest_.data() + rest_.size();
        const auto [after, error] = std::from_chars(rest_.data() + digits, end, number);
        if (error != std::errc()) {
            return false;
        }
        rest_.remove_prefix(size_t(after - rest_.data()));
        return true;
    }

  private:
    std::string_view rest_;
};

// whisper.cpp prints numbers and fixed words alone after "decoder N" and these.
Failure decoder_failure(Line line) {
    if (line.take(": failed due to entropy ") || line.take(": failed due to repetition loop")) {
        return Failure::repetition;
    }
    // Times that run backwards, and a text that ended without a time.
    if (line.take(": failed due to seek_delta ") || line.take(" failed (result_len = 0)")) {
        return Failure::timestamps;
    }
    return Failure::none;
}

}  // namespace

void WhisperTries::read(std::string_view text) {
    Line line(text);
    int64_t number = 0;
    if (line.take("seek = ")) {
        if (line.take(number) && line.take(", seek_delta = ")) {
            window_start_ = std::max(window_start_, std::min(number, frames_));
            number_ = -1;
            best_ = 0;
        }
        return;
    }
    line.take("\n");
    if (!line.take("whisper_full_with_state: ")) {
        return;
    }
    if (line.take("strategy = ")) {
        number_++;
        for (Failure & failure : decoders_) {
            failure = Failure::none;
        }
    } else if (line.take("decoder ")) {
        if (line.take(number) && number >= 0 && number < MAX_DECODERS) {
            const Failure failure = decoder_failure(line);
            decoders_[number] = failure == Failure::none ? decoders_[number] : failure;
        }
    } else if (line.take("best decoder = ")) {
        best_ = line.take(number) && number >= 0 && number < MAX_DECODERS ? int(number) : 0;
    } else if (line.take("failed to decode with temperature = ")) {
        // Where all decoders failed whisper.cpp leaves the best of an earlier try standing.
        const Failure reason = decoders_[best_];
        failed_.push_back({window_start_, number_, reason == Failure::none ? Failure::log_prob : reason});
    }
}

}  // namespace vg
