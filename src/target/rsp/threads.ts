// vCPUs as a stub's threads.

import { TargetError } from '../../base/errors.ts';
import type { Vcpu } from '../target.ts';
import type { RspConnection } from './connection.ts';
import { type Stub, threadKey } from './stub.ts';

export class Threads {
  readonly vcpus: readonly Vcpu[];
  readonly #byKey: ReadonlyMap<string, Vcpu>;
  /** The thread that `g`, `m` and their like are about (`Hg`). */
  #selected: Vcpu | undefined;

  constructor(
    private readonly stub: Pick<Stub, 'threads' | 'hasVCont'>,
    private readonly connection: RspConnection,
  ) {
    this.vcpus = stub.threads.map((_, index) => index);
    this.#byKey = new Map(stub.threads.map((thread, index) => [threadKey(thread), index]));
  }

  id(vcpu: Vcpu): string {
    const id = this.stub.threads[vcpu];
    if (id === undefined) throw new TargetError(`There is no vCPU ${vcpu}`);
    return id;
  }

  /** Undefined for a thread that was not there when the session began. */
  of(thread: string): Vcpu | undefined {
    return this.#byKey.get(threadKey(thread));
  }

  async select(vcpu: Vcpu): Promise<void> {
    const id = this.id(vcpu);
    if (this.#selected === vcpu) return;
    this.#selected = undefined;
    await this.connection.command(`Hg${id}`, `Cannot look at vCPU ${vcpu}`);
    this.#selected = vcpu;
  }

  /** A stop makes another thread the one that is looked at. */
  forget(): void {
    this.#selected = undefined;
  }

  /** The packet that lets all vCPUs run. */
  async continueAll(): Promise<string> {
    if (this.stub.hasVCont) return 'vCont;c';
    await this.connection.ask('Hc-1');
    return 'c';
  }

  /** The packet that lets one vCPU run and no other. */
  continueOne(vcpu: Vcpu): string {
    return `vCont;c:${this.id(vcpu)}`;
  }

  /** The packet that has one vCPU execute one instruction: of those that `vCont` names no action for, none runs. */
  async stepOne(vcpu: Vcpu): Promise<string> {
    if (this.stub.hasVCont) return `vCont;s:${this.id(vcpu)}`;
    await this.connection.command(`Hc${this.id(vcpu)}`, `Cannot step vCPU ${vcpu} alone`);
    return 's';
  }
}
