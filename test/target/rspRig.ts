/** A fake guest behind a fake stub, and what tests of the client of the GDB remote protocol share. */
import assert from 'node:assert/strict';
import { Gva } from '../../src/base/address.ts';
import { connectRemote } from '../../src/target/rsp/connect.ts';
import type { Target } from '../../src/target/target.ts';
import { type Answer, FakeStub, type FakeStubOptions, GuestBehindStub } from '../support/fakeStub.ts';
import { FakeTarget } from '../support/fakeTarget.ts';

/** As long as nothing takes that comes at all. */
export const patience = { connect: 5000, answer: 5000 };
export const signal = new AbortController().signal;

export const translation = ['sctlr_el1', 'ttbr1_el1', 'id_aa64dfr0_el1'].map(
  (name) => ({ name, group: 'system', bits: 64 }) as const,
);
export const [code, data] = [Gva(0x1000n), Gva(0x2000n)];

export interface Rig {
  readonly guest: GuestBehindStub;
  readonly stub: FakeStub;
  readonly target: Target;
}

export interface RigOptions extends FakeStubOptions {
  readonly vcpus?: number;
  /** ID_AA64DFR0_EL1. */
  readonly counts?: bigint;
  readonly patience?: typeof patience;
  /** Answers that are other than the guest's; null: the guest's. */
  readonly instead?: (request: string, stub: FakeStub, guest: GuestBehindStub) => Answer | null | Promise<Answer>;
}

/** A fake guest, a stub in front of it, and the target that is connected to that. Its other vCPUs are in a loop. */
export async function rig(options: RigOptions, work: (rig: Rig) => Promise<void>): Promise<void> {
  const fake = new FakeTarget(options.vcpus ?? 1, translation);
  fake.load(0x1000n, new Uint8Array(0x3000));
  fake.load(0x3000n, new Uint8Array(new Uint32Array([0x1400_0000]).buffer)); // b .
  for (const vcpu of fake.vcpus) {
    // 2 breakpoints and 1 watchpoint, as the fake guest has them.
    fake.set(vcpu, 'id_aa64dfr0_el1', options.counts ?? 0x1000n);
    fake.set(vcpu, 'pc', 0x3000n);
  }
  const guest = new GuestBehindStub(fake, options);
  const stub = await FakeStub.start((request, self) => {
    const answer = options.instead?.(request, self, guest);
    return answer === null || options.instead === undefined ? guest.answer(request, self) : answer;
  });
  try {
    const target = await connectRemote(stub.address, signal, options.patience ?? patience);
    await work({ guest, stub, target });
    await target.detach();
    if (fake.ended === 'detached') assert.deepEqual([guest.planted, guest.isPhysical], [[], false], 'no trace is left');
  } finally {
    stub.close();
  }
}

/** Requests and what they are answered with; all others go to the guest. */
export const table =
  (answers: Readonly<Record<string, Answer>>) =>
  (request: string): Answer | null => {
    const key = Object.keys(answers).find(
      (each) => request === each || (each.endsWith('*') && request.startsWith(each.slice(0, -1))),
    );
    return key === undefined ? null : answers[key];
  };

export const bytesOf = (text: string): Uint8Array => Uint8Array.from(Buffer.from(text, 'latin1'));
