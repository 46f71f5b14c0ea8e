// What the guest does to itself that the user may want to stop at: its own breakpoint instructions, with nothing planted,
// and the functions that a kernel calls when it is lost.

import type { Gva } from '../base/address.ts';
import { MemoryFault } from '../base/errors.ts';
import { BugTable } from '../linux/bugTable.ts';
import { classifyTrap, type TrapClass } from '../linux/traps.ts';
import type { TrapFilter } from '../target/target.ts';
import type { StopContext } from './stopContext.ts';
import type { KernelSymbols } from './symbols.ts';

/** Breakpoints on functions, and on those that call them: a report that many make tells by its caller what it is of. */
export interface FunctionCalls {
  readonly functions: readonly string[];
  readonly callers?: readonly string[];
}

export interface ExceptionFilter {
  readonly id: string;
  /** For the list that the user chooses from. */
  readonly label: string;
  readonly description: string;
  readonly isDefault: boolean;
  readonly traps?: readonly TrapClass[];
  /** Those that the kernel has; releases differ. */
  readonly calls?: readonly FunctionCalls[];
}

// kernel/panic.c; arch/arm64/kernel/traps.c; kernel/watchdog.c, kernel/hung_task.c, kernel/rcu/tree_stall.h.
export const exceptionFilters: readonly ExceptionFilter[] = [
  { id: 'bug', label: 'BUG', description: 'A BUG() or BUG_ON() of the kernel', isDefault: true, traps: ['bug'] },
  { id: 'warn', label: 'WARN', description: 'A WARN() or WARN_ON() of the kernel', isDefault: false, traps: ['warn'] },
  {
    id: 'kasan',
    label: 'KASAN',
    description: 'A report of KASAN with software tags',
    isDefault: false,
    traps: ['kasan'],
  },
  { id: 'ubsan', label: 'UBSAN', description: 'A trap of UBSAN', isDefault: false, traps: ['ubsan'] },
  { id: 'cfi', label: 'CFI', description: 'A failed check of kernel control flow', isDefault: false, traps: ['cfi'] },
  { id: 'kprobe', label: 'kprobe', description: 'A hit of a kprobe', isDefault: false, traps: ['kprobe'] },
  { id: 'kgdb', label: 'kgdb', description: 'A breakpoint of kgdb', isDefault: false, traps: ['kgdb'] },
  {
    id: 'user',
    label: 'User-space breakpoint',
    description: 'A BRK in user space: a debugger, a uprobe, abort() of some programs',
    isDefault: false,
    traps: ['user'],
  },
  {
    id: 'brk',
    label: 'Any other breakpoint instruction',
    description: 'A BRK of the kernel that is none of the above',
    isDefault: false,
    traps: ['other'],
  },
  {
    id: 'panic',
    label: 'panic',
    description: 'The kernel calls panic()',
    isDefault: true,
    calls: [{ functions: ['panic'] }],
  },
  {
    id: 'oops',
    label: 'Oops',
    description: 'The kernel calls die()',
    isDefault: true,
    calls: [{ functions: ['die'] }],
  },
  {
    id: 'lockup',
    label: 'Lockup',
    description: 'The kernel reports a soft or hard lockup, a hung task or an RCU stall',
    isDefault: false,
    calls: [
      { functions: ['print_modules'], callers: ['watchdog_timer_fn', 'watchdog_hardlockup_check'] },
      { functions: ['trace_sched_process_hang', 'print_cpu_stall', 'print_other_cpu_stall'] },
    ],
  },
];

export const filterNamed = (id: string): ExceptionFilter | undefined =>
  exceptionFilters.find((filter) => filter.id === id);

/** What the target has to ask about: BUG and WARN are one instruction, which only the bug table tells apart. */
export function trapFilterOf(wanted: ReadonlySet<TrapClass>): TrapFilter | undefined {
  if (wanted.size === 0) return undefined;
  const asked = new Set(wanted);
  if (asked.has('warn')) asked.add('bug');
  return ({ pc, immediate }) => asked.has(classifyTrap(pc, immediate));
}

/** Tells what the guest's own breakpoint instructions mean. */
export class GuestTraps {
  readonly #bugs: BugTable | undefined;

  constructor(private readonly symbols: KernelSymbols | undefined) {
    this.#bugs = symbols && BugTable.of(symbols.source);
  }

  /** Without a bug table that can be read, BUG and WARN are both taken to be BUG: that stops rather than passes by. */
  async classOf(pc: Gva, immediate: number, context: StopContext, vcpu: number): Promise<TrapClass> {
    const meaning = classifyTrap(pc, immediate);
    if (meaning !== 'bug') return meaning;
    try {
      const isWarning = await this.#bugs?.isWarning(pc, this.symbols?.bias ?? 0n, context.memory(vcpu));
      return isWarning === true ? 'warn' : 'bug';
    } catch (error) {
      if (error instanceof MemoryFault) return 'bug';
      throw error;
    }
  }
}
