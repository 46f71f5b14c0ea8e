// What the breakpoint instructions mean that Linux itself executes on arm64.

/** Who planted a breakpoint instruction, or why the kernel was compiled with it. `kprobeStep`: behind the copy of an
 *  instruction that a kprobe displaced, with which the kernel comes back from it; no hit of its own. */
export type TrapClass =
  | 'bug'
  | 'warn'
  | 'kasan'
  | 'ubsan'
  | 'cfi'
  | 'kprobe'
  | 'kprobeStep'
  | 'kgdb'
  | 'user'
  | 'other';

// arch/arm64/include/asm/brk-imm.h, `esr` masks of arch/arm64/kernel/traps.c:
//   0x004          KPROBES_BRK_IMM
//   0x005          UPROBES_BRK_IMM, in user space
//   0x006          KPROBES_BRK_SS_IMM
//   0x007          KRETPROBES_BRK_IMM       since v6.5 (commit c6ba2f2fb8e7)
//   0x100          FAULT_BRK_IMM, planted by the BPF compiler and others where nothing should execute
//   0x400          KGDB_DYN_DBG_BRK_IMM
//   0x401          KGDB_COMPILED_DBG_BRK_IMM
//   0x800          BUG_BRK_IMM, of BUG and WARN
//   0x900 - 0x9ff  KASAN_BRK_IMM, the low byte describes the access
//   0x5500-0x55ff  UBSAN_BRK_IMM, the low byte is the check
//   0x8000-0x83ff  CFI_BRK_IMM_BASE, with two register numbers
const ranges: readonly (readonly [first: number, last: number, meaning: TrapClass])[] = [
  [0x004, 0x004, 'kprobe'],
  [0x006, 0x006, 'kprobeStep'],
  [0x007, 0x007, 'kprobe'],
  [0x400, 0x401, 'kgdb'],
  [0x800, 0x800, 'bug'],
  [0x900, 0x9ff, 'kasan'],
  [0x5500, 0x55ff, 'ubsan'],
  [0x8000, 0x83ff, 'cfi'],
];

/** Kernel addresses are in the half that bit 55 selects (Arm ARM, D8.2). */
const isKernelAddress = (pc: bigint): boolean => ((pc >> 55n) & 1n) === 1n;

/** The class of the instruction `BRK #immediate` at `pc`. BUG and WARN share one immediate: `bug` stands for both, and the
 *  bug table tells them apart. */
export function classifyTrap(pc: bigint, immediate: number): TrapClass {
  if (!isKernelAddress(pc)) return 'user';
  return ranges.find(([first, last]) => immediate >= first && immediate <= last)?.[2] ?? 'other';
}
