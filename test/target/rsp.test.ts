/** A remote target against a stub with a fake guest. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { Gpa, Gva } from '../../src/base/address.ts';
import { MemoryFault, SessionError, TargetError } from '../../src/base/errors.ts';
import { type StopPoint, UnplantedBreakpoints } from '../../src/target/target.ts';
import type { Answer, FakeStub, GuestBehindStub } from '../support/fakeStub.ts';
import { contract } from './contract.ts';
import { code, data, type RigOptions, rig, table } from './rspRig.ts';

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
