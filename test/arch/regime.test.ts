import assert from 'node:assert/strict';
import { test } from 'node:test';
import { translationRegime } from '../../src/arch/aarch64/regime.ts';

test('whose tables a vCPU goes by', () => {
  const [TGE, E2H] = [1n << 27n, 1n << 34n];
  const [EL0, EL1, EL2, EL3] = [0n, 5n, 9n, 13n];
  const table: readonly (readonly [bigint, bigint, string | undefined])[] = [
    [EL0, 0n, 'el1'],
    [EL1, 0n, 'el1'],
    [EL2, 0n, undefined],
    [EL3, 0n, undefined],
    // A hypervisor that is no host kernel, and guests of one that is.
    [EL2, TGE, undefined],
    [EL0, E2H, 'el1'],
    [EL1, E2H, 'el1'],
    [EL2, E2H, 'el2'],
    [EL0, E2H | TGE, 'el2'],
    [EL2, E2H | TGE, 'el2'],
    // AArch32 user space: the mode says nothing of a level.
    [0x10n, E2H | TGE, 'el2'],
  ];
  for (const [pstate, hcr, regime] of table) assert.equal(translationRegime(pstate, hcr), regime, `${pstate} ${hcr}`);
});
