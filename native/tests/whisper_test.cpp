// The parts of the Whisper engine that need no model.
#include <atomic>
#include <string>
#include <vector>

#include "test.h"
#include "whisper_alignment.h"
#include "whisper_tries.h"
#include "whisper_vad.h"
#include "whisper_window.h"
#include "whisper_word_times.h"
#include "whisper_words.h"

using namespace vg;

namespace {

std::vector<std::string> words(const std::vector<std::string> & bytes, const std::string & language) {
    const std::vector<std::string> texts = token_texts(bytes);
    std::vector<std::string> words;
    for (const MergedWord & word : merge_punctuation(texts, split_words(texts, language))) {
        words.push_back(joined(texts, word.tokens));
    }
    return words;
}

using Texts = std::vector<std::string>;

}  // namespace

TEST(whisper_texts_of_tokens) {
    CHECK(token_texts({}) == Texts{});
    CHECK((token_texts({" \xe4\xbd", "\xa0", "b"}) == Texts{" ", "\xe4\xbd\xa0", "b"}));
    CHECK((token_texts({"\xf0", "\x9f", "\x98", "\x80"}) == Texts{"", "", "", "\xf0\x9f\x98\x80"}));
    // A lead without its rest, a rest without its lead, and what is left at the end.
    CHECK((token_texts({"\xe4", "a"}) == Texts{"", "\xef\xbf\xbd"
                                                   "a"}));
    CHECK((token_texts({"\x80", "a"}) == Texts{"\xef\xbf\xbd", "a"}));
    CHECK((token_texts({"a", "\xe4\xbd"}) == Texts{"a", "\xef\xbf\xbd\xef\xbf\xbd"}));
}

TEST(whisper_words) {
    CHECK((words({" Hel", "lo", ",", " (", "you", ")", "."}, "en") == Texts{" Hello,", " (you)."}));
    CHECK((words({" it", "'s", " \"", "so", "\"", "!"}, "en") == Texts{" it's", " \"so\"!"}));
    CHECK((words({"No", " space", " before"}, "en") == Texts{"No", " space", " before"}));
    CHECK((words({"\xe4", "\xbd\xa0", "\xe5\xa5\xbd", "\xe3\x80\x82"}, "zh") ==
           Texts{"\xe4\xbd\xa0", "\xe5\xa5\xbd\xe3\x80\x82"}));
    CHECK(words({}, "en").empty());
}

TEST(whisper_punctuation_is_beside_the_word) {
    const std::vector<std::string> texts = {" -", " you", "rs", ".", ")", " so", "!"};
    const std::vector<TokenRange> parts = split_words(texts, "en");
    const std::vector<MergedWord> merged = merge_punctuation(texts, parts);
    CHECK(merged.size() == 2);
    CHECK(joined(texts, merged[0].tokens) == " - yours.)" && joined(texts, parts[merged[0].word]) == " yours");
    CHECK(joined(texts, merged[1].tokens) == " so!" && joined(texts, parts[merged[1].word]) == " so");
    const std::vector<MergedWord> marks = merge_punctuation({"!", "?"}, split_words({"!", "?"}, "en"));
    CHECK(marks.size() == 1 && marks[0].word == 0 && marks[0].tokens.end == 2);
}

// 0.3 s a word, and 0.2 s from the end of one to the next.
std::vector<TimedPart> spoken(const std::vector<std::string> & texts) {
    std::vector<TimedPart> parts;
    for (size_t i = 0; i < texts.size(); i++) {
        parts.push_back({texts[i], 0.5 * double(i), 0.5 * double(i) + 0.3});
    }
    return parts;
}

TEST(whisper_word_durations) {
    CHECK(median_duration({}) == 0);
    CHECK(median_duration({{" a", 1, 1}}) == 0);
    CHECK_CLOSE(median_duration({{" a", 0, 0.2}, {" b", 1, 1}, {" c", 1, 1.4}}), 0.3, 1e-9);
    CHECK_CLOSE(median_duration({{" a", 0, 5}}), 0.7, 1e-9);
}

TEST(whisper_words_at_the_ends_of_sentences) {
    std::vector<TimedPart> parts = spoken({" One", ".", " Two", ",", " three"});
    parts[1].end = 1.3;             // the pause is the mark's …
    parts[2] = {" Two", 1.3, 3.3};  // … or the next word's
    parts[3] = {",", 3.3, 5.3};     // no end of a sentence
    parts[4] = {" three", 5.3, 7.3};
    shorten_at_sentence_ends(parts, 0.3);
    CHECK_CLOSE(parts[1].end, 1.1, 1e-9);
    CHECK_CLOSE(parts[2].start, 2.7, 1e-9);
    CHECK_CLOSE(parts[2].end, 3.3, 1e-9);
    CHECK_CLOSE(parts[3].end, 5.3, 1e-9);
    CHECK_CLOSE(parts[4].start, 5.3, 1e-9);
}

TEST(whisper_words_after_a_pause) {
    std::vector<TimedPart> words = {{" One", 4, 7}, {" two", 7, 7.4}};
    shorten_at_segment_ends(words, 0.3, 3.5, 4, 8);
    CHECK_CLOSE(words[0].start, 6.4, 1e-9);
    CHECK_CLOSE(words[0].end, 7, 1e-9);
    // No pause before it.
    words = {{" One", 4, 5}, {" two", 5, 5.4}};
    shorten_at_segment_ends(words, 0.3, 4, 4, 8);
    CHECK_CLOSE(words[0].start, 4, 1e-9);
    // The pause is in the second.
    words = {{" One", 4, 5}, {" two", 5, 9}};
    shorten_at_segment_ends(words, 0.3, 1, 4, 9);
    CHECK_CLOSE(words[0].start, 7.8, 1e-9);
    CHECK_CLOSE(words[0].end, 8.4, 1e-9);
    CHECK_CLOSE(words[1].start, 8.4, 1e-9);
    // Far out of the segment.
    words = {{" One", 4, 4.5}, {" two", 4.5, 4.9}, {" three", 4.9, 8}};
    shorten_at_segment_ends(words, 0.3, 4, 4.7, 6);
    CHECK_CLOSE(words[0].start, 4, 1e-9);
    CHECK_CLOSE(words[2].end, 6, 1e-9);
    words = {{" One", 4, 5.5}};
    shorten_at_segment_ends(words, 0.3, 5, 5, 6);
    CHECK_CLOSE(words[0].start, 5, 1e-9);
    std::vector<TimedPart> none;
    shorten_at_segment_ends(none, 0.3, 0, 0, 0);
}

TEST(whisper_alignment_follows_the_attention) {
    // Prompt, <|notimestamps|>, three tokens, end; each looks at its own stretch of 60 positions.
    CrossAttention attention;
    attention.heads = 2;
    attention.tokens = 6;
    attention.positions = 80;
    attention.weights.assign(size_t(2 * 6 * 80), 0.001f);
    const int stretch[6][2] = {{0, 0}, {0, 10}, {10, 30}, {30, 45}, {45, 60}, {60, 80}};
    for (int h = 0; h < 2; h++) {
        for (int t = 0; t < 6; t++) {
            for (int p = stretch[t][0]; p < stretch[t][1]; p++) {
                attention.weights[size_t((h * 6 + t) * 80 + p)] = 0.1f;
            }
        }
    }
    const std::vector<int> at = align_tokens(attention, 1, 60);
    CHECK(at.size() == 4);
    const int expected[4] = {0, 10, 30, 45};
    for (size_t i = 0; i < at.size(); i++) {
        CHECK_CLOSE(at[i], expected[i], 0.06);
    }
    CHECK(align_tokens(attention, 1, 1).size() == 4);     // audio of 20 ms
    CHECK(align_tokens(attention, 1, 9999).size() == 4);  // more than there is
    CHECK(align_tokens(attention, 6, 60).empty());
}

TEST(whisper_tries_from_the_log) {
    WhisperTries tries(3000);
    const auto begin = [&](const char * temperature) {
        tries.read(std::string("\nwhisper_full_with_state: strategy = 1, decoding with 5 decoders, temperature = ") +
                   temperature + "\n");
    };
    begin("0.00");
    tries.read("whisper_full_with_state: decoder  3: failed due to entropy  1.2 <  2.4\n");
    tries.read("whisper_full_with_state: best decoder = 2\n");
    tries.read("\nwhisper_full_with_state: failed to decode with temperature = 0.00\n");
    begin("0.20");
    tries.read("whisper_full_with_state: decoder 2: failed due to repetition loop\n");
    tries.read("whisper_full_with_state: best decoder = 2\n");
    tries.read("\nwhisper_full_with_state: failed to decode with temperature = 0.20\n");
    begin("0.40");
    CHECK(tries.current() == 2);
    tries.read("seek = 250, seek_delta = 250\n");
    CHECK(tries.window_start() == 250);
    begin("0.00");
    CHECK(tries.current() == 0);
    tries.read("whisper_full_with_state: decoder 0 failed (result_len = 0)\n");
    tries.read("\nwhisper_full_with_state: failed to decode with temperature = 0.00\n");
    const std::vector<FailedTry> & failed = tries.failed();
    CHECK(failed.size() == 3);
    CHECK(failed[0].reason == Failure::log_prob && failed[0].start == 0 && failed[0].number == 0);
    CHECK(failed[1].reason == Failure::repetition && failed[1].number == 1);
    CHECK(failed[2].reason == Failure::timestamps && failed[2].start == 250 && failed[2].number == 0);
    // Numbers of decoders that there are not.
    tries.read("whisper_full_with_state: decoder 99: failed due to repetition loop\n");
    tries.read("whisper_full_with_state: best decoder = -3\n");
    tries.read("\nwhisper_full_with_state: failed to decode with temperature = 0.20\n");
    CHECK(tries.failed().size() == 4);
}

// A model's vocabulary is quoted in the log, and any text may be in it.
TEST(whisper_tries_do_not_believe_the_vocabulary) {
    WhisperTries tries(3000);
    const auto quote = [&](const std::string & word) {
        const std::string f = "whisper_full_with_state: ";
        tries.read(f + "prompt[0] = " + word + "\n");
        tries.read(f + "beam search: decoder 0: from decoder 0: token = " + word + ", plog = -0.1\n");
        tries.read(f + "id =   0, decoder = 0, token =      1, p =  0.1, ts =      [-], 0.0, result_len =    0 '" +
                   word + "'\n");
        tries.read(" '" + word + "'\n");
    };
    tries.read("\nwhisper_full_with_state: strategy = 0, decoding with 1 decoders, temperature = 0.00\n");
    for (const char * word :
         {"seek = 9999, seek_delta = 1", "\nseek = 5, seek_delta = 1\n", "best decoder = 3",
          "\nwhisper_full_with_state: failed to decode with temperature = 0.00", ": decoder 0: failed due to entropy",
          "decoding with 5 decoders, temperature = 0.0", "decoder 0 failed (result_len = 0)"}) {
        quote(word);
    }
    CHECK(tries.failed().empty());
    CHECK(tries.current() == 0);
    CHECK(tries.window_start() == 0);
    tries.read("\nwhisper_full_with_state: failed to decode with temperature = 0.00\n");
    CHECK(tries.failed().size() == 1 && tries.failed()[0].reason == Failure::log_prob);
}

TEST(whisper_windows_move_on_and_stay_in_the_audio) {
    WhisperTries tries(3000);
    const auto at = [&](const char * line) {
        tries.read(line);
        return tries.window_start();
    };
    CHECK(at("seek = 250, seek_delta = 250\n") == 250);
    CHECK(at("seek = -7, seek_delta = 1\n") == 250);
    CHECK(at("seek = 100, seek_delta = 1\n") == 250);
    CHECK(at("seek = x, seek_delta = 1\n") == 250);
    CHECK(at("seek = 300\n") == 250);
    CHECK(at("seek = 99999999999999999999, seek_delta = 1\n") == 250);
    CHECK(at("seek = 9000000, seek_delta = 1\n") == 3000);
}

TEST(whisper_times_of_speech_alone) {
    std::vector<float> samples(16000 * 20);
    for (size_t i = 0; i < samples.size(); i++) {
        samples[i] = float(i);
    }
    // 2 to 4 s and 10 to 11 s: heard as 0 to 2.1 s, silence to 2.2 s, and 2.2 to 3.2 s.
    const SpeechAudio speech(samples.data(), samples.size(), {{32000, 64000}, {160000, 176000}});
    CHECK(speech.samples().size() == 51200);
    CHECK(speech.samples()[0] == 32000.0f && speech.samples()[33599] == 65599.0f);
    CHECK(speech.samples()[33600] == 0.0f && speech.samples()[35200] == 160000.0f);

    const auto near = [](TimeRange got, double start, double end) {
        CHECK_CLOSE(got.start, start, 1e-9);
        CHECK_CLOSE(got.end, end, 1e-9);
    };
    near(speech.segment({0, 1.5}), 2, 3.5);
    near(speech.segment({0.5, 3.0}), 2.5, 10.8);  // over both
    near(speech.segment({0, 2.25}), 2, 4.1);      // does not end in the second
    near(speech.segment({2.05, 3.2}), 10, 11);    // does not begin in the first
    near(speech.segment({2.11, 2.19}), 4.1, 4.1);
    near(speech.segment({9, 10}), 11, 11);
    near(speech.word({1.8, 2.5}), 3.8, 4.1);
    near(speech.word({2.0, 2.9}), 10, 10.7);
    near(speech.word({2.12, 2.18}), 4.1, 4.1);

    const SpeechAudio past(samples.data(), samples.size(), {{300000, 400000}, {500000, 600000}});
    CHECK(past.samples().size() == 20000 + 1600);
    const SpeechAudio none(samples.data(), samples.size(), {});
    CHECK(none.samples().empty());
    near(none.segment({0, 0}), 0, 0);
}

TEST(whisper_fitted_window) {
    CHECK(fitted_context(16000 * 4, 1500) < 400);
    CHECK(fitted_context(16000 * 4, 1500) >= 250);
    CHECK(fitted_context(16000 * 30, 1500) == 1500);
    CHECK(fitted_context(size_t(16000) * 86400, 1500) == 1500);
    CHECK(fitted_context(0, 1500) > 0);
}
