import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  type DebugRegisterPair,
  decodeDebugExit,
  encodeBreakpoint,
  encodeWatchpoints,
  nearestWatchpoints,
} from '../../src/arch/aarch64/debug.ts';
import { describeFaultStatus, describeSyndrome } from '../../src/arch/aarch64/syndrome.ts';
import { TargetError } from '../../src/base/errors.ts';
import { randomSource } from './random.ts';

test('a hardware breakpoint', () => {
  assert.deepEqual(encodeBreakpoint(0xffff_8000_1000_0004n), { value: 0xffff_8000_1000_0004n, control: 0x1e7n });
  // A tag in the top byte is not part of the comparison; DBGBVR wants copies of the sign bit there.
  assert.equal(encodeBreakpoint(0x12ff_8000_1000_0004n).value, 0xffff_8000_1000_0004n);
  assert.equal(encodeBreakpoint(0x1200_8000_1000_0004n).value, 0x0000_8000_1000_0004n);
  for (const offset of [1n, 2n, 3n]) assert.throws(() => encodeBreakpoint(0x1000n + offset), TargetError);
});

// E 1, PAC 0b11 << 1 = 6, LSC << 3, BAS << 5, MASK << 24.
test('watchpoints within a doubleword and of aligned powers of two', () => {
  for (const [address, length, access, expected] of [
    [0x1000n, 8, 'write', [[0x1000n, 0x1ff7n]]],
    [0x1000n, 8, 'read', [[0x1000n, 0x1fefn]]],
    [0x1000n, 8, 'readWrite', [[0x1000n, 0x1fffn]]],
    [0x1000n, 1, 'write', [[0x1000n, 0x37n]]],
    [0x1007n, 1, 'write', [[0x1000n, 0x1017n]]],
    [0x1004n, 4, 'write', [[0x1000n, 0x1e17n]]],
    [0x1003n, 3, 'write', [[0x1000n, 0x717n]]],
    [0x1000n, 16, 'write', [[0x1000n, 0x0400_1ff7n]]],
    [0x1000n, 4096, 'write', [[0x1000n, 0x0c00_1ff7n]]],
    [0x8000_0000n, 2 ** 31, 'readWrite', [[0x8000_0000n, 0x1f00_1fffn]]],
    [
      0x1_0000_0000n,
      2 ** 32,
      'write',
      [
        [0x1_0000_0000n, 0x1f00_1ff7n],
        [0x1_8000_0000n, 0x1f00_1ff7n],
      ],
    ],
    // Unaligned: two or more.
    [
      0x1006n,
      4,
      'write',
      [
        [0x1000n, 0x1817n],
        [0x1008n, 0x77n],
      ],
    ],
    [
      0x1008n,
      16,
      'write',
      [
        [0x1008n, 0x1ff7n],
        [0x1010n, 0x1ff7n],
      ],
    ],
    [
      0x1001n,
      23,
      'write',
      [
        [0x1000n, 0x1fd7n],
        [0x1008n, 0x1ff7n],
        [0x1010n, 0x1ff7n],
      ],
    ],
    [0xffff_ffff_ffff_fff8n, 8, 'write', [[0xffff_ffff_ffff_fff8n, 0x1ff7n]]],
  ] as const) {
    const pairs = encodeWatchpoints(address, length, access);
    const expectedPairs = expected.map(([value, control]) => ({ value, control }));
    assert.deepEqual(pairs, expectedPairs, `${length} at ${address.toString(16)}`);
  }
});

test('ranges that cannot be watched are refused, not shortened', () => {
  for (const length of [0, -1, 1.5, Number.NaN, Number.POSITIVE_INFINITY]) {
    assert.throws(() => encodeWatchpoints(0x1000n, length, 'write'), TargetError);
  }
  assert.throws(() => encodeWatchpoints(0xffff_ffff_ffff_fff8n, 9, 'write'), TargetError);
  assert.throws(() => encodeWatchpoints(0x1006n, 4, 'write', 1), TargetError);
  assert.equal(encodeWatchpoints(0x1006n, 4, 'write', 2).length, 2);
  assert.throws(() => encodeWatchpoints(0x1001n, 2 ** 40, 'write'), TargetError);
});

/** Whether a watchpoint of the CPU matches the byte at `address` (Arm ARM, D2.8 "Watchpoint data address comparisons"). */
function watches({ value, control }: DebugRegisterPair, address: bigint): boolean {
  const mask = (control >> 24n) & 31n;
  const bas = (control >> 5n) & 0xffn;
  if (mask === 0n) return address >> 3n === value >> 3n && ((bas >> (address & 7n)) & 1n) === 1n;
  return bas === 0xffn && address >> mask === value >> mask;
}

test('any range is watched exactly, every byte by one watchpoint, each as the architecture allows', () => {
  const random = randomSource(1);
  for (let round = 0; round < 2000; round++) {
    const address = 0xffff_0000_0000_0000n + BigInt(random.below(512));
    const length = 1 + random.below(round % 2 ? 16 : 300);
    const pairs = encodeWatchpoints(address, length, 'readWrite');
    for (let offset = -16; offset < length + 600; offset++) {
      const at = address + BigInt(offset);
      const inside = offset >= 0 && offset < length;
      const matching = pairs.filter((pair) => watches(pair, at)).length;
      assert.equal(matching, inside ? 1 : 0, `${length} at ${address.toString(16)}, byte ${offset}`);
    }
    for (const { value, control } of pairs) {
      const mask = (control >> 24n) & 31n;
      const bas = (control >> 5n) & 0xffn;
      assert.ok(mask === 0n || mask >= 3n);
      assert.equal(value & ((1n << (mask > 3n ? mask : 3n)) - 1n), 0n);
      const run = bas / (bas & -bas); // contiguous ones are 2^n - 1 once shifted down
      assert.equal(run & (run + 1n), 0n);
    }
  }
});

test('the watchpoint of an exception is the nearest to FAR', () => {
  const a = { address: 0x1010n, length: 4 };
  const b = { address: 0x1020n, length: 8 };
  const tagged = { address: 0x00ff_8000_0000_1000n, length: 8 };
  for (const [far, watched, expected] of [
    [0x1012n, [a, b], [a]],
    [0x1008n, [a, b], [a]], // an STP that began below the range
    [0x1027n, [a, b], [b]],
    [0x1018n, [a, b], [a]], // 5 bytes above a, 8 below b
    [0x101cn, [a, b], [b]],
    [0x1012n, [a, { address: 0x1000n, length: 64 }], [a, { address: 0x1000n, length: 64 }]],
    [0x12ff_8000_0000_1000n, [a, tagged], [tagged]],
    [0x1000n, [], []],
  ] as const) {
    assert.deepEqual(nearestWatchpoints(far, watched), expected, far.toString(16));
  }
});

test('debug exits', () => {
  for (const [hsr, far, expected] of [
    [0xf200_0000, 0x99n, { kind: 'softwareBreakpoint', immediate: 0, aarch32: false }],
    [0xf200_0800, 0n, { kind: 'softwareBreakpoint', immediate: 0x800, aarch32: false }],
    [0xe200_00be, 0n, { kind: 'softwareBreakpoint', immediate: 0xbe, aarch32: true }],
    [0xca00_0022, 0n, { kind: 'step', exclusive: false }], // ISV 0: after an exception
    [0xcb00_0022, 0n, { kind: 'step', exclusive: false }],
    [0xcb00_0062, 0n, { kind: 'step', exclusive: true }],
    [0xca00_0062, 0n, { kind: 'step', exclusive: false }], // EX without ISV means nothing
    [0xc200_0022, 0n, { kind: 'hardwareBreakpoint' }],
    [
      0xd200_0062,
      0xffff_0000_1234_5678n,
      { kind: 'watchpoint', far: 0xffff_0000_1234_5678n, write: true, number: undefined },
    ],
    [0xd200_0022, 0x10n, { kind: 'watchpoint', far: 0x10n, write: false, number: undefined }],
    [0xd20e_0022, 0x10n, { kind: 'watchpoint', far: 0x10n, write: false, number: 3 }],
    [0x5600_0000, 0n, { kind: 'unknown', exceptionClass: 0x15 }],
    [0xf200_0000 | 0, 0n, { kind: 'softwareBreakpoint', immediate: 0, aarch32: false }], // read as a signed word
  ] as const) {
    assert.deepEqual(decodeDebugExit(hsr, far), expected, (hsr >>> 0).toString(16));
  }
});

test('syndromes in words', () => {
  for (const [esr, text] of [
    [0xf200_0800n, 'BRK #0x800'],
    [0x5600_0000n, 'SVC #0x0'],
    [0x9600_0007n, 'data abort from the current EL: translation fault, level 3, read'],
    [0x9600_0047n, 'data abort from the current EL: translation fault, level 3, write'],
    [0x9200_014fn, 'data abort from a lower EL: permission fault, level 3, cache maintenance'],
    [0x8600_0004n, 'instruction abort from the current EL: translation fault, level 0'],
    [0x8200_0085n, 'instruction abort from a lower EL: translation fault, level 1, on a stage 1 walk'],
    [0x9600_0021n, 'data abort from the current EL: alignment fault, read'],
    [0xd200_0062n, 'watchpoint from a lower EL: write'],
    [0x0200_0000n, 'unknown reason'],
    [0xbe00_0411n, 'SError'],
    [0x7200_0000n, 'pointer authentication failure'],
    [0xfe00_0000n, 'exception class 0x3f'],
    // ISS of EC 0x18 for `mrs x5, midr_el1` and `msr vbar_el1, xzr`: Op0 Op2 Op1 CRn Rt CRm direction.
    [0x6230_00a1n, 'MSR, MRS or system instruction: mrs x5, midr_el1'],
    [0x6230_33e0n, 'MSR, MRS or system instruction: msr vbar_el1, xzr'],
    [0x6232_f801n, 'MSR, MRS or system instruction: mrs x0, cntpct_el0'],
  ] as const) {
    assert.equal(describeSyndrome(esr), text, esr.toString(16));
  }
  assert.equal(describeSyndrome(0xf200_0800), 'BRK #0x800');
});

test('fault status codes', () => {
  for (const [code, text] of [
    [0x00, 'address size fault, level 0'],
    [0x09, 'access flag fault, level 1'],
    [0x0f, 'permission fault, level 3'],
    [0x10, 'external abort'],
    [0x16, 'external abort on the walk, level 2'],
    [0x2b, 'translation fault, level -1'],
    [0x3f, 'fault status 0x3f'],
  ] as const) {
    assert.equal(describeFaultStatus(code), text);
  }
});
