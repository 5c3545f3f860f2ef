// whisper.cpp and ggml log through one callback for the process. What they say on a thread goes to that thread's
// listener, and is dropped where there is none.
#pragma once

#include <string>

#include "whisper_tries.h"

namespace vg {

void listen_to_whisper_log();  // installs the callback, once

class LogScope {
  public:
    // tries: is given the lines of the debug log, may be null.
    explicit LogScope(WhisperTries * tries = nullptr);
    ~LogScope();
    LogScope(const LogScope &) = delete;

    // Warnings and errors so far, as one line.
    std::string complaints() const;

    void hear(int level, const char * text);

  private:
    WhisperTries * tries_;
    LogScope * outer_;
    std::string complaints_;
};

}  // namespace vg
