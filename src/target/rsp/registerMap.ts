// The registers of a stub under the names that the architecture gives them.

import { compareRegisters, describeRegister, isKnownRegister } from '../../arch/aarch64/registers.ts';
import type { RegisterDescription } from '../../arch/architecture.ts';
import type { RemoteRegister } from './targetDescription.ts';

export type RegisterEntry = RegisterDescription & {
  readonly remote: RemoteRegister;
  /** `v<n>` of a vCPU with SVE, which has it as the low bits of Z<n>. */
  readonly isLowPart: boolean;
};

// Where a register has the same encoding in AArch32, QEMU calls it by that name (target/arm/helper.c, ARM_CP_STATE_BOTH);
// what is not allocated it names after the nearest thing, or by its encoding, with a suffix.
const otherNames: Readonly<Record<string, string>> = { cpsr: 'pstate', amair0: 'amair_el1', cntkctl: 'cntkctl_el1' };

/** The architectural name of what a stub calls `spelling`. */
export function architecturalName(spelling: string): string {
  const name = spelling.toLowerCase();
  const bare = name.replace(/_reserved$/, '');
  const candidates = [otherNames[name] ?? name, bare, `${bare}_el1`, `${bare}_el0`];
  return candidates.find(isKnownRegister) ?? bare;
}

/** General registers first, names unique. Of two that have one name the first counts: QEMU lists FPCR and FPSR also among
 *  its system registers. */
export function registerEntries(registers: readonly RemoteRegister[]): readonly RegisterEntry[] {
  const entries = new Map<string, RegisterEntry>();
  for (const remote of registers) {
    const name = architecturalName(remote.name);
    if (entries.has(name)) continue;
    entries.set(name, { ...describeRegister(name, 8 * remote.bytes), remote, isLowPart: false });
  }
  for (let n = 0; n < 32; n++) {
    const vector = entries.get(`z${n}`);
    if (!vector || entries.has(`v${n}`)) continue;
    entries.set(`v${n}`, { ...describeRegister(`v${n}`, 128), remote: vector.remote, isLowPart: true });
  }
  return [...entries.values()].sort(compareRegisters);
}

/** What stubs of aarch64 have that describe nothing (GDB features/aarch64-core.xml, aarch64-fpu.xml). */
export const standardRegisters: readonly RemoteRegister[] = [
  ...Array.from({ length: 31 }, (_, n) => [`x${n}`, 8] as const),
  ['sp', 8] as const,
  ['pc', 8] as const,
  ['cpsr', 4] as const,
  ...Array.from({ length: 32 }, (_, n) => [`v${n}`, 16] as const),
  ['fpsr', 4] as const,
  ['fpcr', 4] as const,
].map(([name, bytes], number) => ({ name, number, bytes }));
