// Pseudo-random numbers that are the same in every run: a failure can be repeated.

export interface RandomSource {
  /** A whole number from 0 up to, without, `limit`. */
  below(limit: number): number;
  /** `count` random bits. */
  bits(count: number): bigint;
}

/** xorshift32 (Marsaglia, "Xorshift RNGs", 2003). `seed` is not 0. */
export function randomSource(seed: number): RandomSource {
  let state = seed >>> 0;
  const next = (): number => {
    state ^= state << 13;
    state >>>= 0;
    state ^= state >>> 17;
    state ^= state << 5;
    state >>>= 0;
    return state;
  };
  return {
    below: (limit) => Math.floor((next() / 2 ** 32) * limit),
    bits: (count) => {
      let value = 0n;
      for (let have = 0; have < count; have += 32) value = (value << 32n) | BigInt(next());
      return BigInt.asUintN(count, value);
    },
  };
}
