// What the status bar says of the guest that is debugged.

/** The adapter's answer to `kvm/status`, and the body of its event. */
export interface GuestStatus {
  readonly state: 'running' | 'stopped';
  /** Of a guest that is not reached through its VMM. */
  readonly target?: string;
  readonly vmm?: string;
  readonly pid?: number;
  readonly vcpus: number;
  readonly exitTrap?: string;
  readonly symbols?: string;
  readonly hardwareBreakpoints: Budget;
  readonly watchpoints: Budget;
}

interface Budget {
  readonly used: number;
  readonly total: number;
}

const budget = ({ used, total }: Budget): string => `${used}/${total}`;
const vcpus = (count: number): string => `${count} ${count === 1 ? 'vCPU' : 'vCPUs'}`;

/** With icons in the notation of VS Code's labels. */
export function statusText({ state, target, vmm, vcpus: count, hardwareBreakpoints }: GuestStatus): string {
  const icon = state === 'running' ? '$(vm-running)' : '$(debug-pause)';
  return `${icon} ${target ?? vmm ?? 'Guest'}: ${vcpus(count)}, HW ${budget(hardwareBreakpoints)}`;
}

/** Lines of a name and a value. */
export const statusDetails = (status: GuestStatus): readonly (readonly [name: string, value: string])[] => [
  ['Guest', status.state],
  status.target === undefined
    ? ['VMM', [status.vmm ?? 'unknown', ...(status.pid === undefined ? [] : [`(pid ${status.pid})`])].join(' ')]
    : ['Target', status.target],
  ['vCPUs', `${status.vcpus}`],
  ['Hardware breakpoints', `${budget(status.hardwareBreakpoints)} in use`],
  ['Watchpoints', `${budget(status.watchpoints)} in use`],
  ...(status.target === undefined ? [['Exit trap', status.exitTrap ?? 'unknown'] as const] : []),
  ['Symbols', status.symbols ?? 'none'],
];
