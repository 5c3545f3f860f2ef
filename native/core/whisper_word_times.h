// When words begin and end, after the alignment of tokens: openai-whisper's corrections (whisper/timing.py).
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "whisper_words.h"

namespace vg {

// A word or a mark of punctuation by itself.
struct TimedPart {
    std::string text;
    double start = 0;  // s
    double end = 0;    // s
};

// How long words of a window last, s: the median of the parts that last at all, 0.7 at most; 0 where none does.
double median_duration(const std::vector<TimedPart> & parts);

// The pause behind a sentence belongs to its mark, or to the first word of the next one. Either lasts twice the
// median at most: the mark from its start, the word up to its end.
void shorten_at_sentence_ends(std::vector<TimedPart> & parts, double median);

// A segment's words. The first two after a pause last twice the median at most each: the alignment lays the pause to
// them. Where the first one still begins, or the last one ends, more than 0.5 s outside of the segment, the segment is
// right. last_end: s, where the last word before them ended.
void shorten_at_segment_ends(std::vector<TimedPart> & words, double median, double last_end, double segment_start,
                             double segment_end);

}  // namespace vg
