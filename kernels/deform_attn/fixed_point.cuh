// Sums that do not depend on the order of their terms: 64-bit integers in units of a power of two. The unit is derived
// on the device from bounds on the terms, so that no sum can overflow; with 2^20 terms of equal size it keeps 41 bits
// of each, more than the 24 of the float that it comes from.
#pragma once

struct Scale {
    float first, second;  // their product is one over the unit; alone it can exceed the range of a float
    int exponent;         // of the product
};

// The smallest e with x < 2^e, given the bits of a finite x >= 0; -125 for subnormal numbers.
DEVICE int exponent_above(unsigned bits) {
    const int biased = static_cast<int>(bits >> 23);
    return (biased > 1 ? biased : 1) - 126;
}

DEVICE float power_of_two(int exponent) { return float_of(static_cast<unsigned>(exponent + 127) << 23); }

// A term is a finite float, hence below 2^128; with peaks (g, a) it is also at most g * a.
DEVICE Scale scale_of(const unsigned* peaks, int contributions_exponent) {
    const int product = exponent_above(fetch(peaks)) + exponent_above(fetch(peaks + 1));
    int exponent = 61 - contributions_exponent - (product < 128 ? product : 128);
    exponent = exponent < 200 ? exponent : 200;  // a float's last bit is 2^-149
    const int half = exponent / 2;
    return {power_of_two(half), power_of_two(exponent - half), exponent};
}

DEVICE bool is_finite(float x) { return (bits_of(x) & 0x7f800000u) != 0x7f800000u; }

DEVICE float settled(long long sum, const Scale& scale) {
    const double unit = double_of(static_cast<unsigned long long>(1023 - scale.exponent) << 52);
    return static_cast<float>(static_cast<double>(sum) * unit);
}
