// What a client shows of a session at a glance.
import { UserError } from '../base/errors.ts';
import type { Debugger } from '../debugger/debugger.ts';
import type { Client } from './context.ts';

/** How much of something the vCPU has, and how much of it the user's breakpoints take. */
interface Budget {
  readonly used: number;
  readonly total: number;
}

export interface StatusBody {
  /** Where there is no VMM on this machine: `remote stub HOST:PORT`. */
  readonly target?: string;
  readonly vmm?: string;
  readonly pid?: number;
  readonly vcpus: number;
  readonly exitTrap?: string;
  /** Path of the symbol file. */
  readonly symbols?: string;
  readonly hardwareBreakpoints: Budget;
  readonly watchpoints: Budget;
  readonly state: 'running' | 'stopped';
}

/** Among the facts that a target over KVM tells of itself: `qemu-system-aar (pid 4711)`. */
const vmmFact = /^(.*) \(pid (\d+)\)$/;

export class SessionStatus {
  /** What the client was told last; undefined while it has not asked. */
  #told: string | undefined;

  constructor(
    private readonly instance: Debugger,
    private readonly client: Client,
  ) {}

  /** UserError when the session is over. */
  get body(): StatusBody {
    const { state, stopPointUse: use, symbols, target } = this.instance;
    if (state === 'ended') throw new UserError('The debug session has ended.');
    const { facts } = target.capabilities;
    const vmm = facts.get('VMM');
    const [, name = vmm, pid] = vmmFact.exec(vmm ?? '') ?? [];
    const exitTrap = facts.get('exit trap');
    const remote = facts.get('target');
    return {
      ...(remote === undefined ? {} : { target: remote }),
      ...(name === undefined ? {} : { vmm: name }),
      ...(pid === undefined ? {} : { pid: Number(pid) }),
      vcpus: target.vcpus.length,
      ...(exitTrap === undefined ? {} : { exitTrap }),
      ...(symbols === undefined ? {} : { symbols: symbols.source.path }),
      hardwareBreakpoints: { used: use.hardware, total: use.breakpoints },
      watchpoints: { used: use.data, total: use.watchpoints },
      state,
    };
  }

  /** The client was told this, and is to be told what becomes of it. */
  follow(told: StatusBody): void {
    this.#told = JSON.stringify(told);
    this.changed();
  }

  /** To be called when it may have changed: whoever asked once is told if it has. */
  changed(): void {
    if (this.#told === undefined || this.instance.state === 'ended') return;
    const { body } = this;
    const text = JSON.stringify(body);
    if (text === this.#told) return;
    this.#told = text;
    this.client.event('kvm/status', body);
  }
}
