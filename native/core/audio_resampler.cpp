#include "audio_resampler.h"

#include <algorithm>
#include <cmath>
#include <mutex>
#include <numeric>

namespace vg {
namespace {

constexpr double ATTENUATION = 110;  // dB
constexpr double PASS = 0.9;         // of the lower Nyquist frequency
constexpr size_t MAX_PHASES = 1024;  // linear interpolation between so many is as exact as the stop band
constexpr size_t LANES = 16;
constexpr size_t KEPT_FILTERS = 4;  // of up to 8 MB
const double PI = std::acos(-1.0);

double bessel_i0(double x) {
    double sum = 1, term = 1;
    for (int k = 1; term > 1e-17 * sum; k++) {
        term *= (x / (2 * k)) * (x / (2 * k));
        sum += term;
    }
    return sum;
}

std::shared_ptr<const ResamplerFilter> design(uint32_t rate) {
    auto filter = std::make_shared<ResamplerFilter>();
    uint64_t common = std::gcd(rate, AUDIO_RATE);
    filter->up = AUDIO_RATE / common;
    filter->down = rate / common;
    filter->phases = std::min<size_t>(filter->up, MAX_PHASES);

    // Frequencies in cycles a sample of the input. Kaiser, "Nonrecursive digital filter design", 1974.
    double nyquist = 0.5 * std::min(1.0, double(AUDIO_RATE) / rate);
    double transition = nyquist * (1 - PASS), cutoff = nyquist - transition / 2;
    double length = (ATTENUATION - 7.95) / (2.285 * 2 * PI * transition);
    double beta = 0.1102 * (ATTENUATION - 8.7), peak = bessel_i0(beta);
    filter->half = size_t(std::ceil(length / 2)) + 1;
    filter->width = (2 * filter->half + LANES - 1) / LANES * LANES;

    double reach = double(filter->half);
    auto impulse = [&](double x) {
        double inside = 1 - (x / reach) * (x / reach);
        if (inside <= 0) {
            return 0.0;
        }
        double sinc = std::abs(x) < 1e-9 ? 2 * cutoff : std::sin(2 * PI * cutoff * x) / (PI * x);
        return sinc * bessel_i0(beta * std::sqrt(inside)) / peak;
    };
    std::vector<double> row(2 * filter->half);
    filter->taps.resize((filter->phases + 1) * filter->width);
    for (size_t phase = 0; phase <= filter->phases; phase++) {
        double sum = 0;
        for (size_t i = 0; i < row.size(); i++) {
            row[i] = impulse(double(i) - double(filter->half - 1) - double(phase) / double(filter->phases));
            sum += row[i];
        }
        for (size_t i = 0; i < row.size(); i++) {
            filter->taps[phase * filter->width + i] = float(row[i] / sum);  // each phase leaves a constant as it is
        }
    }
    return filter;
}

// Always in the same order, whatever the compiler makes of it.
float dot(const float * a, const float * b, size_t n) {
    float lanes[LANES] = {};
    for (size_t i = 0; i < n; i += LANES) {
        for (size_t lane = 0; lane < LANES; lane++) {
            lanes[lane] += a[i + lane] * b[i + lane];
        }
    }
    for (size_t half = LANES / 2; half > 0; half /= 2) {
        for (size_t lane = 0; lane < half; lane++) {
            lanes[lane] += lanes[lane + half];
        }
    }
    return lanes[0];
}

}  // namespace

std::shared_ptr<const ResamplerFilter> ResamplerFilter::of(uint32_t rate) {
    // The clips of a data set have a rate or two, and making the filter takes as long as using it on some seconds.
    struct Kept {
        uint32_t rate;
        std::shared_ptr<const ResamplerFilter> filter;
    };
    static std::mutex mutex;
    static std::vector<Kept> kept;  // the one used last in front
    const auto find = [&]() -> std::shared_ptr<const ResamplerFilter> {
        const auto found = std::find_if(kept.begin(), kept.end(), [&](const Kept & one) { return one.rate == rate; });
        if (found == kept.end()) {
            return nullptr;
        }
        std::rotate(kept.begin(), found, found + 1);
        return kept.front().filter;
    };
    {
        std::lock_guard<std::mutex> lock(mutex);
        if (auto filter = find()) {
            return filter;
        }
    }
    auto filter = design(rate);  // without the lock: others go on meanwhile
    std::lock_guard<std::mutex> lock(mutex);
    if (auto other = find()) {
        return other;
    }
    kept.insert(kept.begin(), {rate, filter});
    kept.resize(std::min(kept.size(), KEPT_FILTERS));
    return filter;
}

void Resampler::push(const float * samples, size_t n, std::vector<float> & out) {
    if (n == 0) {
        return;
    }
    received_ += n;
    if (rate_ == AUDIO_RATE) {
        out.insert(out.end(), samples, samples + n);
        return;
    }
    if (!filter_) {
        filter_ = ResamplerFilter::of(rate_);
        history_.assign(filter_->half - 1, 0.0f);
        begin_ = -int64_t(history_.size());
    }
    history_.insert(history_.end(), samples, samples + n);
    produce(UINT64_MAX, out);
}

void Resampler::finish(std::vector<float> & out) {
    if (!filter_) {
        return;
    }
    history_.insert(history_.end(), filter_->half, 0.0f);
    uint64_t length = (received_ * filter_->up * 2 + filter_->down) / (filter_->down * 2);
    produce(std::max<uint64_t>(length, 1), out);
}

void Resampler::produce(uint64_t limit, std::vector<float> & out) {
    const ResamplerFilter & f = *filter_;
    const int64_t end = begin_ + int64_t(history_.size());
    history_.resize(history_.size() + f.width - 2 * f.half, 0.0f);  // under the zeros at the end of a row
    for (; next_ < limit; next_++) {
        uint64_t place = next_ * f.down;
        int64_t first = int64_t(place / f.up) - int64_t(f.half - 1);
        if (first + int64_t(2 * f.half) > end) {
            break;
        }
        const float * input = history_.data() + (first - begin_);
        // Phase in units of a row: whole where every phase has its own.
        uint64_t scaled = (place % f.up) * f.phases;
        const float * taps = f.taps.data() + scaled / f.up * f.width;
        float value = dot(input, taps, f.width);
        if (scaled % f.up != 0) {
            float share = float(scaled % f.up) / float(f.up);
            value += share * (dot(input, taps + f.width, f.width) - value);
        }
        out.push_back(value);
    }
    history_.resize(size_t(end - begin_));
    int64_t keep = int64_t(next_ * f.down / f.up) - int64_t(f.half - 1);
    size_t drop = size_t(std::clamp<int64_t>(keep - begin_, 0, int64_t(history_.size())));
    history_.erase(history_.begin(), history_.begin() + ptrdiff_t(drop));
    begin_ += int64_t(drop);
}

}  // namespace vg
