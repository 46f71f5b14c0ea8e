/** The conversation with a stub: its beginning, its end, and answers that are odd or made to harm. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { SessionError, UserError } from '../../src/base/errors.ts';
import { connectRemote } from '../../src/target/rsp/connect.ts';
import { RspConnection } from '../../src/target/rsp/connection.ts';
import { memoryIn } from '../../src/target/rsp/ram.ts';
import { type Answer, FakeStub, GuestBehindStub } from '../support/fakeStub.ts';
import { FakeTarget } from '../support/fakeTarget.ts';
import { bytesOf, code, data, patience, type RigOptions, rig, signal, table, translation } from './rspRig.ts';

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
