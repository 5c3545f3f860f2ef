#include "whisper_word_times.h"

#include <algorithm>

namespace vg {
namespace {

constexpr double LONGEST_MEDIAN = 0.7;  // s
constexpr double OUTSIDE = 0.5;         // s

bool ends_sentence(const TimedPart & part) {
    return part.text == "." || part.text == "。" || part.text == "!" || part.text == "！" || part.text == "?" ||
           part.text == "？";
}

}  // namespace

double median_duration(const std::vector<TimedPart> & parts) {
    std::vector<double> durations;
    for (const TimedPart & part : parts) {
        if (part.end > part.start) {
            durations.push_back(part.end - part.start);
        }
    }
    if (durations.empty()) {
        return 0;
    }
    std::sort(durations.begin(), durations.end());
    const size_t n = durations.size();
    return std::min(LONGEST_MEDIAN, (durations[(n - 1) / 2] + durations[n / 2]) / 2);
}

void shorten_at_sentence_ends(std::vector<TimedPart> & parts, double median) {
    for (size_t i = 1; i < parts.size(); i++) {
        if (parts[i].end - parts[i].start <= 2 * median) {
            continue;
        }
        if (ends_sentence(parts[i])) {
            parts[i].end = parts[i].start + 2 * median;
        } else if (ends_sentence(parts[i - 1])) {
            parts[i].start = parts[i].end - 2 * median;
        }
    }
}

void shorten_at_segment_ends(std::vector<TimedPart> & words, double median, double last_end, double segment_start,
                             double segment_end) {
    if (words.empty()) {
        return;
    }
    const double longest = 2 * median;
    TimedPart & first = words.front();
    TimedPart & last = words.back();
    if (first.end - last_end > 2 * longest &&
        (first.end - first.start > longest || (words.size() > 1 && words[1].end - first.start > 2 * longest))) {
        if (words.size() > 1 && words[1].end - words[1].start > longest) {
            first.end = words[1].start = std::max(words[1].end / 2, words[1].end - longest);
        }
        first.start = std::max(0.0, first.end - longest);
    }
    if (segment_start < first.end && segment_start - OUTSIDE > first.start) {
        first.start = std::max(0.0, std::min(first.end - median, segment_start));
    }
    if (segment_end > last.start && segment_end + OUTSIDE < last.end) {
        last.end = std::max(last.start + median, segment_end);
    }
}

}  // namespace vg
