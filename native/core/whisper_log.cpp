#include "whisper_log.h"

#include <algorithm>
#include <mutex>

#include "whisper.h"

namespace vg {
namespace {

constexpr size_t ENOUGH = 2000;  // bytes of complaints; whisper.cpp has one for each byte of a prompt it cannot read

thread_local LogScope * listener = nullptr;

}  // namespace

void listen_to_whisper_log() {
    static std::once_flag once;
    std::call_once(once, [] {
        whisper_log_set(
            [](ggml_log_level level, const char * text, void *) {
                if (listener) {
                    listener->hear(level, text);
                }
            },
            nullptr);
    });
}

LogScope::LogScope(WhisperTries * tries) : tries_(tries), outer_(listener) { listener = this; }

LogScope::~LogScope() { listener = outer_; }

void LogScope::hear(int level, const char * text) {
    if (level == GGML_LOG_LEVEL_DEBUG && tries_) {
        tries_->read(text);
    }
    if ((level == GGML_LOG_LEVEL_ERROR || level == GGML_LOG_LEVEL_WARN) && complaints_.size() < ENOUGH) {
        complaints_ += text;
    }
}

std::string LogScope::complaints() const {
    std::string line = complaints_;
    while (!line.empty() && (line.back() == '\n' || line.back() == ' ')) {
        line.pop_back();
    }
    std::replace(line.begin(), line.end(), '\n', ';');
    return line;
}

}  // namespace vg
