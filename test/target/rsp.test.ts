/** The client of the GDB remote protocol: against a stub with a fake guest, and against answers that are odd or wrong. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { Gpa, Gva } from '../../src/base/address.ts';
import { MemoryFault, SessionError, TargetError, UserError } from '../../src/base/errors.ts';
import { connectRemote } from '../../src/target/rsp/connect.ts';
import { RspConnection } from '../../src/target/rsp/connection.ts';
import { memoryIn } from '../../src/target/rsp/ram.ts';
import { type StopPoint, type Target, UnplantedBreakpoints } from '../../src/target/target.ts';
import { type Answer, FakeStub, type FakeStubOptions, GuestBehindStub } from '../support/fakeStub.ts';
import { FakeTarget } from '../support/fakeTarget.ts';
import { contract } from './contract.ts';

/** As long as nothing takes that comes at all. */
const patience = { connect: 5000, answer: 5000 };
const signal = new AbortController().signal;

const translation = ['sctlr_el1', 'ttbr1_el1', 'id_aa64dfr0_el1'].map(
  (name) => ({ name, group: 'system', bits: 64 }) as const,
);
const [code, data] = [Gva(0x1000n), Gva(0x2000n)];

interface Rig {
  readonly guest: GuestBehindStub;
  readonly stub: FakeStub;
  readonly target: Target;
}

interface RigOptions extends FakeStubOptions {
  readonly vcpus?: number;
  /** ID_AA64DFR0_EL1. */
  readonly counts?: bigint;
  readonly patience?: typeof patience;
  /** Answers that are other than the guest's; null: the guest's. */
  readonly instead?: (request: string, stub: FakeStub, guest: GuestBehindStub) => Answer | null | Promise<Answer>;
}

/** A fake guest, a stub in front of it, and the target that is connected to that. Its other vCPUs are in a loop. */
async function rig(options: RigOptions, work: (rig: Rig) => Promise<void>): Promise<void> {
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

const variants: readonly (readonly [string, RigOptions])[] = [
  ['like that of QEMU', { without: /^X/ }],
  ['with two vCPUs, binary writes and without acknowledgments', { vcpus: 2, features: ';QStartNoAckMode+' }],
];
for (const [name, options] of variants) {
  describe(`target/rsp on a stub ${name}`, () => {
    for (const each of contract) {
      test(each.name, () =>
        rig(options, ({ target }) =>
          each.run({ target, code, data, unmapped: Gva(0x10_0000n), killed: { code: undefined, signal: undefined } }),
        ),
      );
    }
  });
}

/** Requests and what they are answered with; all others go to the guest. */
const table =
  (answers: Readonly<Record<string, Answer>>) =>
  (request: string): Answer | null => {
    const key = Object.keys(answers).find(
      (each) => request === each || (each.endsWith('*') && request.startsWith(each.slice(0, -1))),
    );
    return key === undefined ? null : answers[key];
  };

const bytesOf = (text: string): Uint8Array => Uint8Array.from(Buffer.from(text, 'latin1'));

async function refused(options: RigOptions, expected: RegExp): Promise<void> {
  await assert.rejects(
    rig(options, async () => undefined),
    (error: unknown) => error instanceof UserError && expected.test(error.message),
    `${expected}`,
  );
}

describe('a stub that is not one to debug with is refused', () => {
  test('that does not answer', () =>
    refused(
      { instead: () => undefined, patience: { connect: 50, answer: 50 } },
      /127\.0\.0\.1:\d+ accepts the connection.*another debugger may be connected/,
    ));

  test('that is no stub', () =>
    refused(
      { instead: () => bytesOf('HTTP/1.1 400 Bad Request\r\n\r\n'), patience: { connect: 50, answer: 50 } },
      /is no GDB stub/,
    ));

  test('that closes the connection', () =>
    refused(
      {
        instead: (_request, stub) => {
          stub.drop();
          return undefined;
        },
      },
      /is no GDB stub/,
    ));

  test('whose packets have no end', () =>
    refused({ instead: () => bytesOf(`+$${'x'.repeat(2 << 20)}`) }, /is no GDB stub/));

  test('whose run lengths have no end', () =>
    refused({ instead: () => bytesOf(`+$x${'*~'.repeat(20_000)}#00`) }, /is no GDB stub/));

  test('where nothing listens', async () => {
    const stub = await FakeStub.start(() => '');
    const { address } = stub;
    stub.close();
    await assert.rejects(
      connectRemote(address, signal, patience),
      /nothing listens at 127\.0\.0\.1:\d+; .*-gdb tcp::\d+/,
    );
  });

  const described = (text: string): RigOptions => ({
    instead: table({ 'qXfer:features:read:target.xml*': `l${text}` }),
  });
  const cases: readonly (readonly [string, string, RegExp])[] = [
    [
      'of another architecture',
      '<target><architecture>i386:x86-64</architecture></target>',
      /architecture i386:x86-64; .*aarch64/,
    ],
    [
      'without its registers',
      '<target><architecture>aarch64</architecture></target>',
      /no register x0, x30, sp, pc, pstate/,
    ],
    ['that is no XML', '<target><feature></target>', /target\.xml\+0x[0-9a-f]+: /],
    ['that includes itself', '<target><xi:include href="target.xml"/></target>', /too many parts/],
    ['with a register of 7 bits', '<feature><reg name="x0" bitsize="7"/></feature>', /"x0" with 7 bits/],
    ['with a register of many bits', '<feature><reg name="x0" bitsize="1000000"/></feature>', /"x0" with 1000000 bits/],
    [
      'that grows when it is read',
      '<!DOCTYPE t [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">]><target><architecture>&b;</architecture></target>',
      /target\.xml\+0x|architecture/,
    ],
  ];
  for (const [name, text, expected] of cases)
    test(`with a description ${name}`, () => refused(described(text), expected));

  test('with a description that has no end', () =>
    refused({ instead: table({ 'qXfer:*': `m${'x'.repeat(4000)}` }) }, /target\.xml has no end/));

  test('whose VM is over', () => refused({ instead: table({ '?': 'W00' }) }, /has ended already/));
});

describe('an attach that is cancelled', () => {
  test('where nobody answers ends soon', async () => {
    const stub = await FakeStub.start(() => undefined);
    const abort = new AbortController();
    const attach = connectRemote(stub.address, abort.signal, { connect: 5000, answer: 50 });
    setImmediate(() => abort.abort());
    await assert.rejects(attach, /cancelled/);
    stub.close();
  });

  /** The requests from the one on at which the attach is cancelled, and how it ends. */
  async function cancelledAt(
    at: string,
    answers: Readonly<Record<string, Answer>>,
  ): Promise<readonly [string[], Error]> {
    const fake = new FakeTarget(1, translation);
    fake.load(code, new Uint8Array(4));
    fake.set(0, 'pc', code);
    const guest = new GuestBehindStub(fake);
    const abort = new AbortController();
    const stub = await FakeStub.start((request, self) => {
      if (request.startsWith(at)) abort.abort();
      return table(answers)(request) ?? guest.answer(request, self);
    });
    try {
      const end = await connectRemote(stub.address, abort.signal, { connect: 5000, answer: 500 }).catch(
        (error) => error,
      );
      assert.ok(end instanceof UserError);
      assert.deepEqual(guest.planted, []);
      return [stub.requests.slice(stub.requests.findIndex((request) => request.startsWith(at)) + 1), end];
    } finally {
      stub.close();
    }
  }

  test('lets the guest run again', async () => {
    assert.deepEqual((await cancelledAt('?', {}))[0], ['D']);
    const [requests, end] = await cancelledAt('Qqemu.sstep', { 'qqemu.sstep': '0x1', 'Qqemu.sstep*': 'OK' });
    assert.deepEqual(requests, ['Qqemu.sstep:1', 'D;01']);
    assert.equal(end.message, 'attach: cancelled.');
    const [left] = await cancelledAt('Z0', {});
    assert.deepEqual([left[0]?.slice(0, 2), left.slice(1)], ['z0', ['D;01']]);
    assert.deepEqual((await cancelledAt('Z2', {}))[0].at(-1), 'D;01');
  });

  test('says when the stub does not let it', async () => {
    const [requests, end] = await cancelledAt('?', { 'D*': 'E22' });
    assert.deepEqual(requests, ['D', 'D;1']);
    assert.match(end.message, /cancelled\. The guest may be left stopped: Cannot detach: .*E22/);
  });
});

test('what is damaged on the way is sent again', async () => {
  let damaged = 1;
  const instead = (request: string, stub: FakeStub): Answer | null => {
    if (request === 'qfThreadInfo') stub.refusals = 2;
    return request === '?' && damaged-- > 0 ? bytesOf('$T05thread:p01.01;#ff') : null;
  };
  await rig({ instead }, async ({ target, stub }) => {
    assert.equal(target.vcpus.length, 1);
    assert.equal(stub.requests.filter((request) => request === '?').length, 2);
  });
  await refused({ instead: table({ '?': bytesOf('$T05thread:p01.01;#ff') }) }, /does not understand|damaged/);
});

test('what a stub cannot do is in its capabilities', async () => {
  await rig({ instead: table({ 'Z0*': '', 'Z1*': '', 'Z2*': '' }) }, async ({ target }) => {
    const { softwareBreakpoints, hardwareBreakpoints, hardwareWatchpoints, guestTraps } = target.capabilities;
    assert.deepEqual([softwareBreakpoints, hardwareBreakpoints, hardwareWatchpoints, guestTraps], [false, 0, 0, false]);
    await assert.rejects(target.insert({ kind: 'software', address: code }, 0), /the remote stub cannot do that/);
    await assert.rejects(target.insert({ kind: 'hardware', address: code }, 0), TargetError);
  });
  await rig({ without: /^qqemu|^qRcmd|^vCont/, vcpus: 2 }, async ({ target, stub }) => {
    assert.equal(target.capabilities.facts.get('steps'), 'interrupts are masked in PSTATE');
    assert.match(target.capabilities.facts.get('RAM') ?? '', /not told by the stub/);
    assert.match(target.capabilities.facts.get('other vCPUs in a step') ?? '', /no vCont/);
    await target.memory(0).write(data, Uint8Array.of(1, 2, 3));
    assert.deepEqual(await target.memory(0).read(data, 3), Uint8Array.of(1, 2, 3));
    const isPlain = (error: unknown): boolean => error instanceof TargetError && !(error instanceof MemoryFault);
    await assert.rejects(target.translate(0, data), isPlain);
    await assert.rejects(target.physicalMemory.read(Gpa(0x2000n), 1), /cannot access memory by physical address/);
    assert.ok(!stub.requests.some((request) => request.startsWith('Qqemu')));
  });
});

test('without vCont the stub steps the thread it is told', () => {
  const answers = { 'vCont?': '', 'Hcp01.01': 'OK', s: 'T05thread:p1.1;' };
  return rig({ vcpus: 2, instead: table(answers) }, async ({ target, stub }) => {
    assert.deepEqual(await target.step(0), [{ kind: 'step', vcpu: 0, pc: 0x3000n }]);
    assert.ok(stub.requests.includes('Hcp01.01'));
  });
});

test('a step names its vCPU and no other', () =>
  rig({ vcpus: 2 }, async ({ target, stub }) => {
    await target.step(1);
    assert.deepEqual(
      new Set(stub.requests.filter((request) => request.startsWith('vCont;'))),
      new Set(['vCont;s:p01.02']),
    );
  }));

describe('stop replies', () => {
  const stops: readonly (readonly [string, Answer, object])[] = [
    ['without a thread', 'S02', { kind: 'interrupted', vcpu: 0 }],
    ['of another thread', 'T02thread:p1.2;', { kind: 'interrupted', vcpu: 1 }],
    [
      'with output before, and registers',
      ['O68690a', 'T0220:00;thread:p1.1;core:0;'],
      { kind: 'interrupted', vcpu: 0 },
    ],
    [
      'with another signal',
      'T0bthread:p1.1;',
      { kind: 'unknown', vcpu: 0, detail: 'signal 11 from the remote stub at 0x3000' },
    ],
    [
      'at no breakpoint',
      'T05thread:p1.1;',
      { kind: 'unknown', vcpu: 0, detail: 'signal 5 from the remote stub at 0x3000' },
    ],
    ['that the VM has ended', 'W03', { kind: 'exited', status: { code: 3, signal: undefined } }],
    ['that the VM was ended', 'X09;process:1', { kind: 'exited', status: { code: undefined, signal: 9 } }],
  ];
  for (const [name, answer, event] of stops) {
    test(name, () =>
      rig({ vcpus: 2, instead: table({ 'vCont;c': answer }) }, async ({ target }) => {
        assert.deepEqual(await target.resume(), [event]);
      }),
    );
  }

  test('that are none end the session', () =>
    rig({ instead: table({ 'vCont;c': 'E01' }) }, async ({ target }) => {
      await assert.rejects(
        target.resume(),
        (error: unknown) => error instanceof SessionError && /answers `E01`/.test(error.message),
      );
    }));
});

describe('a connection that is lost', () => {
  const isLost = (error: unknown): boolean =>
    error instanceof SessionError && /connection to the remote stub at 127\.0\.0\.1:\d+ is lost/.test(error.message);

  test('while the guest runs', () =>
    rig({ instead: table({ 'vCont;c': undefined }) }, async ({ target, stub }) => {
      const run = target.resume();
      setImmediate(() => stub.drop());
      await assert.rejects(run, isLost);
      await assert.rejects(target.exited, isLost);
    }));

  test('while the guest is stopped', () =>
    rig({}, async ({ target, stub }) => {
      stub.drop();
      await assert.rejects(target.exited, isLost);
      await assert.rejects(target.memory(0).read(data, 1), isLost);
    }));

  test('is no loss when the VM has said that it ends', () =>
    rig({}, async ({ target, stub }) => {
      stub.send('W00');
      stub.drop();
      assert.deepEqual(await target.exited, { code: 0, signal: undefined });
    }));

  test('or a stub that says no more', () =>
    rig({ instead: table({ 'm*': undefined }), patience: { connect: 1000, answer: 50 } }, async ({ target }) => {
      await assert.rejects(target.memory(0).read(data, 1), /does not answer `m2000,1`/);
      await assert.rejects(target.exited, SessionError);
    }));
});

describe('what lets go of the guest and fails says so', () => {
  const short = { connect: 1000, answer: 50 };
  const isLost =
    (pattern: RegExp) =>
    (error: unknown): boolean =>
      error instanceof SessionError && pattern.test(error.message);

  test('a detach from a guest that does not stop', async () => {
    let runs = (): void => undefined;
    const isRunning = new Promise<void>((resolve) => {
      runs = resolve;
    });
    const instead = (request: string): Answer | null => {
      if (request === 'vCont;c') runs();
      return request === 'vCont;c' || request === '^C' ? undefined : null;
    };
    await rig({ instead, patience: short }, async ({ target }) => {
      const over = assert.rejects(target.resume(), SessionError);
      await isRunning;
      await assert.rejects(target.detach(), isLost(/does not answer an interrupt/));
      await over;
    });
  });

  test('a detach that the stub refuses', () =>
    rig({ instead: table({ 'D*': 'E22' }) }, async ({ target }) => {
      await assert.rejects(target.detach(), isLost(/Cannot detach: .*E22/));
      await target.detach();
    }));

  test('a kill that the stub ignores', () =>
    rig({ instead: table({ k: undefined }), patience: short }, async ({ target }) => {
      await assert.rejects(target.kill(), isLost(/does not answer `k`/));
      await assert.rejects(target.exited, SessionError);
    }));

  test('and not a kill that the stub answers as QEMU does', () =>
    rig({ instead: table({ k: 'W00' }), patience: short }, async ({ target }) => {
      await target.kill();
      assert.deepEqual(await target.exited, { code: undefined, signal: undefined });
    }));

  test('a kill over a connection that is lost', () =>
    rig({}, async ({ target, stub }) => {
      stub.drop();
      await assert.rejects(target.exited, SessionError);
      await assert.rejects(target.kill(), isLost(/is lost/));
    }));
});

describe('a stop reply that nobody asked for is no answer', () => {
  const instead = (late: string, answer: Answer | null) => (request: string, stub: FakeStub) => {
    if (!(answer === null ? /^(m2000|z0)/ : /^m2000/).test(request)) return null;
    stub.send(late);
    return answer;
  };

  for (const late of ['T05thread:p1.1;', 'S05']) {
    test(`a late ${late}`, () =>
      rig({ without: /^qqemu/, instead: instead(late, null) }, async ({ target }) => {
        assert.deepEqual(await target.memory(0).read(data, 1), Uint8Array.of(0));
        await target.remove(await target.insert({ kind: 'software', address: code }, 0));
      }));
  }

  for (const [late, status] of [
    ['W03', { code: 3, signal: undefined }],
    ['X09', { code: undefined, signal: 9 }],
  ] as const) {
    test(`the end of the VM, ${late}`, () =>
      rig({ without: /^qqemu/, instead: instead(late, undefined) }, async ({ target }) => {
        const read = assert.rejects(target.memory(0).read(data, 1), /The VM has ended/);
        assert.deepEqual(await target.exited, status);
        await read;
      }));
  }
});

describe('answers that are made to take for ever', () => {
  test('threads', async () => {
    await rig({ instead: table({ qfThreadInfo: 'm-', qsThreadInfo: 'm-' }) }, async ({ target }) => {
      assert.deepEqual(target.vcpus, [0]);
    });
    await rig({ instead: table({ qfThreadInfo: `m${'1,'.repeat(400_000)}` }) }, async ({ target }) => {
      assert.deepEqual(target.vcpus, [0]);
    });
  });

  const longest = 300_000;
  test('flags of steps', () =>
    rig({ instead: table({ 'qqemu.sstepbits': 'A'.repeat(longest) }) }, async ({ target }) => {
      assert.equal(target.capabilities.facts.get('steps'), 'interrupts are masked in PSTATE');
    }));

  for (const [name, text] of [
    ['lines', '\n'.repeat(longest)],
    ['priorities', `${'0'.repeat(16)}-${'0'.repeat(16)} (prio \n`.repeat(longest / 10)],
  ] as const) {
    test(`ranges of memory: ${name}`, () => {
      assert.deepEqual(memoryIn(`FlatView #0\n AS "memory", root: system\n${text}`), []);
    });
  }
});

test('a bug in what takes an answer ends the connection only', async () => {
  const stub = await FakeStub.start(() => undefined);
  const connection = await RspConnection.open(stub.address, patience, signal);
  connection.onEnd = () => {
    throw new TypeError('bug');
  };
  const asked = connection.ask('g');
  setImmediate(() => stub.send('W00'));
  await assert.rejects(asked, SessionError);
  assert.equal(connection.isOpen, false);
  stub.close();
});

test('a register that the stub says it wrote and did not', () =>
  rig({}, async ({ target }) => {
    await assert.rejects(target.writeRegister(0, 'sctlr_el1', 1n), /does not change sctlr_el1: it is 0x0 still/);
    await assert.rejects(target.writeRegister(0, 'pstate', 1n << 32n), /32 bits wide/);
  }));

test('registers that the stub has twice have their places in `g` all the same', async () => {
  const names = [...Array.from({ length: 31 }, (_, n) => `x${n}`), 'x0', 'sp', 'pc', 'cpsr'];
  const values = names.map((name, n) =>
    name === 'cpsr' ? 'c5030000' : (n + 1).toString(16).padStart(2, '0').padEnd(16, '0'),
  );
  const text = names.map((name) => `<reg name="${name}" bitsize="${name === 'cpsr' ? 32 : 64}"/>`).join('');
  const instead = (request: string): Answer | null => {
    if (request.startsWith('qXfer')) return `l<target><feature>${text}</feature></target>`;
    if (request.startsWith('P') || request.startsWith('p')) return '';
    if (request === 'g') return values.join('');
    if (!request.startsWith('G')) return null;
    const [, digits = ''] = /^G(.*)$/.exec(request) ?? [];
    for (let [n, at] = [0, 0]; n < values.length; n++) {
      const { length } = values[n] ?? '';
      values[n] = digits.slice(at, at + length);
      at += length;
    }
    return 'OK';
  };
  await rig({ instead, without: /^qqemu/ }, async ({ target }) => {
    assert.deepEqual(
      await target.readRegisters(0, ['x0', 'x30', 'sp', 'pc']),
      new Map([
        ['x0', 1n],
        ['x30', 31n],
        ['sp', 33n],
        ['pc', 34n],
      ]),
    );
    await target.writeRegister(0, 'sp', 0x77n);
    assert.equal(values[32], '7700000000000000');
  });
});

test('memory in parts, as the stub gives it', async () => {
  const part = (request: string): Answer | null => {
    const [, digits = '', length = ''] = /^m([0-9a-f]+),([0-9a-f]+)$/.exec(request) ?? [];
    const address = Number.parseInt(digits, 16);
    if (digits === '' || address < 0x2000) return null;
    if (address >= 0x2010) return 'E14';
    return Buffer.alloc(Math.min(5, Number.parseInt(length, 16), 0x2010 - address), address & 0xff).toString('hex');
  };
  await rig({ without: /^qqemu/, instead: part }, async ({ target }) => {
    const bytes = await target.memory(0).read(data, 12);
    assert.deepEqual([...bytes], [0, 0, 0, 0, 0, 5, 5, 5, 5, 5, 10, 10]);
    const isFault = (error: unknown): boolean =>
      error instanceof MemoryFault && error.address === 0x2010n && /E14/.test(error.message);
    await assert.rejects(target.memory(0).read(data, 32), isFault);
  });
});

test('memory that is more than the stub was asked for, or no memory', () =>
  rig({ without: /^qqemu/, instead: table({ 'm2000,4': '0011223344', 'm2000,2': 'zz' }) }, async ({ target }) => {
    for (const length of [4, 2]) await assert.rejects(target.memory(0).read(data, length), MemoryFault);
  }));

test('breakpoints that cannot be placed any more are named', async () => {
  let isFull = false;
  const instead = (request: string): Answer | null => (isFull && request.startsWith('Z1,1004') ? 'E22' : null);
  await rig({ instead }, async ({ target, guest }) => {
    const [first, second] = [
      await target.insert({ kind: 'software', address: code }, 0),
      await target.insert({ kind: 'hardware', address: Gva(code + 4n) }, 0),
    ];
    isFull = true;
    const names = (error: unknown): boolean =>
      error instanceof UnplantedBreakpoints && error.ids.length === 1 && error.ids[0] === second;
    await assert.rejects(target.resume(), names);
    assert.deepEqual(guest.planted, []);
    await target.remove(first);
  });
});

test('a stub with fewer watchpoints than the vCPU has refuses the one that is too many at once', async () => {
  const instead = (request: string, _stub: FakeStub, guest: GuestBehindStub): Answer | null =>
    /^Z[1-4],/.test(request) && guest.planted.filter((place) => !place.startsWith('0')).length >= 1 ? 'E22' : null;
  for (const kind of ['hardware', 'watch'] as const) {
    await rig({ instead, counts: 0x30_3000n }, async ({ target, guest }) => {
      const point = (address: Gva): StopPoint =>
        kind === 'watch' ? { kind, address, length: 8, access: 'write' } : { kind, address };
      const id = await target.insert(point(data), 0);
      await assert.rejects(target.insert(point(Gva(data + 64n)), 0), /Cannot place .* at 0x2040: .*E22/);
      assert.deepEqual(guest.planted, []);
      await target.remove(id);
      await target.remove(await target.insert(point(Gva(data + 64n)), 0));
    });
  }
});

test('a breakpoint that the guest has written over', async () => {
  let isOver = false;
  const instead = (request: string, stub: FakeStub, guest: GuestBehindStub): Answer | null => {
    if (isOver && request === 'vCont;c') return 'T02thread:p1.1;';
    if (!isOver || !request.startsWith('z0')) return null;
    void guest.answer(request, stub);
    return 'E22';
  };
  await rig({ instead }, async ({ target, guest }) => {
    const id = await target.insert({ kind: 'software', address: code }, 0);
    isOver = true;
    await target.resume();
    assert.deepEqual(target.takeRewritten(), [id]);
    assert.deepEqual(target.takeRewritten(), []);
    // What is there is a breakpoint: then it is the stub that has left it.
    guest.target.load(code, Uint8Array.of(0, 0, 0x20, 0xd4));
    await assert.rejects(target.resume(), SessionError);
  });
});

test('a breakpoint that the stub does not take out from where nothing can be read is there still', async () => {
  let isLost = false;
  const instead = (request: string): Answer | null => {
    if (!isLost) return null;
    if (request === 'vCont;c') return 'T02thread:p1.1;';
    return /^(z0|m1000)/.test(request) ? 'E22' : null;
  };
  await rig({ instead }, async ({ target, guest }) => {
    await target.insert({ kind: 'software', address: code }, 0);
    isLost = true;
    await assert.rejects(target.resume(), SessionError);
    assert.deepEqual(target.takeRewritten(), []);
    isLost = false;
    await guest.answer('z0,1000,4', {} as FakeStub);
  });
});

test('a step that was interrupted leaves no stop behind', async () => {
  const replies: string[] = ['T02thread:p1.1;', 'T05thread:p1.1;', 'T02thread:p1.1;'];
  await rig(
    { instead: (request) => (request.startsWith('vCont;') ? (replies.shift() ?? 'T02') : null) },
    async ({ target }) => {
      assert.deepEqual(await target.step(0), [{ kind: 'interrupted', vcpu: 0 }]);
      // The stop that QEMU still owes for the step is nobody's.
      assert.deepEqual(await target.resume(), [{ kind: 'interrupted', vcpu: 0 }]);
      assert.deepEqual(replies, []);
    },
  );
});

test('of vCPUs that arrive at once, what is told late is of no step and of no breakpoint that has gone', async () => {
  const late: string[] = [];
  const instead = (request: string): Answer | null => (request.startsWith('vCont;') ? (late.shift() ?? null) : null);
  await rig({ vcpus: 2, instead }, async ({ target }) => {
    const loop = new Uint8Array(new Uint32Array([0x9100_0673, 0x17ff_ffff]).buffer); // add x19, x19, #1; b -4
    await target.memory(0).write(code, loop);
    await target.writeRegister(1, 'pc', code);
    for (const stale of ['T05thread:p1.1;', 'T05thread:p1.1;watch:2000;', 'T05thread:p1.2;']) {
      await target.writeRegister(1, 'pc', code);
      late.push(stale);
      assert.deepEqual(await target.step(1), [{ kind: 'step', vcpu: 1, pc: code + 4n }], stale);
    }
    const id = await target.insert({ kind: 'software', address: code }, 1);
    assert.deepEqual(await target.resume(), [{ kind: 'breakpoint', vcpu: 1, pc: code, ids: [id] }]);
    await target.remove(id);
    late.push('T05thread:p1.2;', 'T02thread:p1.2;');
    assert.deepEqual(await target.resume(), [{ kind: 'interrupted', vcpu: 1 }]);
    assert.deepEqual(late, []);
  });
});

test('a stop point that was reported is not reported again when the step off it fails', async () => {
  let refuses = 0;
  const instead = (request: string, stub: FakeStub, guest: GuestBehindStub): Answer | null | Promise<Answer> => {
    if (request === 'vCont?') return '';
    if (request.startsWith('Hcp')) return refuses-- > 0 ? 'E01' : 'OK';
    if (request === 'Hc-1') return 'OK';
    if (request === 'c') return guest.answer('vCont;c', stub);
    if (request === 's') return guest.answer('vCont;s:p1.1', stub);
    return null;
  };
  await rig({ instead }, async ({ target, stub }) => {
    const loop = new Uint8Array(new Uint32Array([0x9100_0673, 0x17ff_ffff]).buffer); // add x19, x19, #1; b -4
    await target.memory(0).write(code, loop);
    await target.writeRegister(0, 'pc', Gva(code + 4n));
    await target.writeRegister(0, 'x19', 0n);
    const id = await target.insert({ kind: 'software', address: code }, 0);
    const event = { kind: 'breakpoint', vcpu: 0, pc: code, ids: [id] };
    assert.deepEqual(await target.resume(), [event]);
    for (const move of [() => target.resume(), () => target.step(0)]) {
      refuses = 1;
      await assert.rejects(move(), /Cannot step vCPU 0 alone/);
    }
    assert.deepEqual(await target.resume(), [event]);
    assert.equal(stub.requests.filter((request) => request === 's').length, 1, 'the instruction was stepped');
    await target.remove(id);
  });
});

test('a step that gets nowhere', async () => {
  const answers: Record<string, Answer> = {};
  await rig({ vcpus: 2, instead: (request) => table(answers)(request) }, async ({ target, stub }) => {
    const steps = (): number => stub.requests.filter((request) => request.startsWith('vCont;s')).length;
    answers['vCont;s*'] = 'T05thread:p1.2;';
    assert.deepEqual(await target.step(1), [{ kind: 'step', vcpu: 1, pc: 0x3000n }]);
    assert.equal(steps(), 1, 'a branch to itself is executed once');
    await target.memory(0).write(code, Uint8Array.of(0x73, 0x06, 0, 0x91)); // add x19, x19, #1
    await target.writeRegister(1, 'pc', code);
    await assert.rejects(target.step(1), (error) => error instanceof TargetError && /from 0x1000/.test(error.message));
    answers['vCont;s*'] = 'T05thread:p1.1;';
    await assert.rejects(
      target.step(1),
      (error) => error instanceof SessionError && /does not step/.test(error.message),
    );
  });
});

test('an exclusive sequence is one step, and WFI none of the stub', async () => {
  const instead = (request: string, _stub: FakeStub, { target: fake }: GuestBehindStub): Answer | null => {
    if (!request.startsWith('vCont;s')) return null;
    fake.set(0, 'pc', fake.get(0, 'pc') + 4n); // the fake guest knows none of these instructions
    return 'T05thread:p01.01;';
  };
  await rig({ instead }, async ({ target, stub }) => {
    const steps = (): number => stub.requests.filter((request) => request.startsWith('vCont;s')).length;
    const words = [0xd503207f, 0x885ffc20, 0x11000400, 0x8802fc20, 0x35ffffa2]; // wfi, ldaxr, add, stlxr, cbnz
    await target.memory(0).write(code, new Uint8Array(new Uint32Array(words).buffer));
    await target.writeRegister(0, 'pc', code);
    assert.deepEqual(await target.step(0), [{ kind: 'step', vcpu: 0, pc: code + 4n }]);
    assert.equal(steps(), 0);
    assert.deepEqual(await target.step(0), [{ kind: 'step', vcpu: 0, pc: code + 16n }]);
    assert.equal(steps(), 3);
  });
  // A real vCPU loses its reservation to each step.
  let planted: readonly string[] = [];
  const runs = (request: string, _stub: FakeStub, guest: GuestBehindStub): Answer | null => {
    if (request !== 'vCont;c:p01.01') return null;
    planted = guest.planted;
    guest.target.set(0, 'pc', code + 12n);
    return 'T05thread:p01.01;';
  };
  await rig({ without: /^qqemu/, instead: runs }, async ({ target }) => {
    const words = [0x885ffc20, 0x11000400, 0x8802fc20, 0x35ffffa2];
    await target.memory(0).write(code, new Uint8Array(new Uint32Array(words).buffer));
    await target.writeRegister(0, 'pc', code);
    assert.deepEqual(await target.step(0), [{ kind: 'step', vcpu: 0, pc: code + 12n }]);
    assert.deepEqual(planted, ['1,100c,4']);
  });
});
