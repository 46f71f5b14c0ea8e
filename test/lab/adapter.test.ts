// The adapter as its users have it: dist/adapter.js in the emulated arm64 KVM host, driven over DAP from outside, with a
// real Debian kernel under kvmtool and QEMU.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { type LabCpu, lkvm, vmlinux } from '../../lab/lab.ts';
import { guestCommand, guestWords } from '../../lab/vmm.ts';
import { SymbolFile } from '../../src/symbols/image.ts';
import type { DapMessage } from '../support/dapClient.ts';
import { ALLOC, Bytes, buildElf, EXEC } from '../support/elfBuilder.ts';
import { type AdapterInLab, guestConfiguration, startAdapterInLab } from '../support/labAdapter.ts';
import { lineOf, noStrays, runGuest, session, User, unlessPresent, type Vmm } from '../support/labUser.ts';

/** No more of a vmlinux than what tells where it would be, and that it is of no kernel here. */
function otherKernel(): Uint8Array {
  const text = 0xffff_8000_0800_0000n;
  const notes = new Bytes().u32(4).u32(20).u32(3).string('GNU').bytes(new Uint8Array(20).fill(0xaa)).done();
  return buildElf({
    type: 2,
    machine: 183, // EM_AARCH64
    sections: [
      { name: '.text', bytes: new Uint8Array(64), flags: ALLOC | EXEC, address: text },
      { name: '.notes', bytes: notes, type: 7, flags: ALLOC, address: text + 0x1000n }, // SHT_NOTE
    ],
    symbols: ['_text', 'start_kernel'].map((name) => ({ name, value: text, section: '.text' })),
  });
}

function suite(cpu: LabCpu, launches: readonly (readonly [Vmm, number])[], attachTo: Vmm): void {
  describe(`adapter on ${cpu}`, () => {
    let adapter: AdapterInLab;
    before(async () => {
      adapter = await startAdapterInLab({ cpu, files: { '/job/other-vmlinux': otherKernel() } });
    });
    after(() => adapter.close());

    for (const [vmm, cpus] of launches) {
      test(`launch under ${vmm} with ${cpus} vCPU`, { skip: unlessPresent(vmm) }, async () => {
        await session(adapter, async (user) => {
          const line = await lineOf('boot_cpu_init');
          let breakpoint: DapMessage['body'];
          await user.begin('launch', guestConfiguration(vmm, { cpus }), async () => {
            breakpoint = await user.breakAt(line);
          });
          assert.equal((await user.stopped()).reason, 'entry');
          const entry = vmm === 'kvmtool' ? 0x80000000n : 0x40000000n;
          assert.equal(await user.pc(), entry, "the guest's first instruction");
          assert.equal((BigInt((await user.registers()).get('pstate') ?? 0) >> 2n) & 3n, 1n, 'EL1');
          const { threads } = await user.client.request('threads');
          assert.equal(threads.length, cpus);

          const hit = await user.go('continue');
          assert.equal(hit.reason, 'breakpoint');
          assert.deepEqual(hit.hitBreakpointIds, [breakpoint.id]);
          const [frame, caller] = await user.frames();
          assert.match(frame?.name ?? '', /start_kernel/);
          assert.equal(frame?.line, line);
          assert.match(caller?.name ?? '', /__primary_switched/);
          const verified = user.client.events('breakpoint').some(({ body }) => body.breakpoint.verified);
          assert.ok(breakpoint.verified || verified, 'a breakpoint that is hit was reported verified');

          const before = await user.pc();
          assert.equal((await user.go('next', { granularity: 'instruction' })).reason, 'step');
          assert.equal(await user.pc(), before + 4n);
          assert.equal((await user.go('next')).reason, 'step');
          assert.ok(((await user.frames())[0]?.line ?? 0) > line);

          await user.breakAt(line);
          await user.client.request('continue', { threadId: user.threadId });
          const exited = await user.client.waitFor('exited');
          assert.equal(exited.body.exitCode, 0);
          assert.match(user.client.outputText('stdout'), /GUEST-USERSPACE/);
          await user.client.waitFor('terminated');
          await user.leave(true);
          await noStrays(adapter);
        });
      });
    }

    for (const vmm of ['kvmtool', 'qemu'] as const) {
      test(`a kernel that moves itself (KASLR) under ${vmm}`, { skip: unlessPresent(vmm) }, async () => {
        await session(adapter, async (user) => {
          const line = await lineOf('boot_cpu_init');
          await user.begin('launch', guestConfiguration(vmm, { kaslr: true, cpus: 2 }), async () => {
            await user.breakAt(line);
            await user.client.request('setFunctionBreakpoints', { breakpoints: [{ name: 'run_init_process' }] });
          });
          assert.equal((await user.stopped()).reason, 'entry');
          assert.equal((await user.go('continue')).reason, 'breakpoint');
          const [frame, caller] = await user.frames();
          assert.match(frame?.name ?? '', /start_kernel/);
          assert.equal(frame?.line, line);
          assert.match(caller?.name ?? '', /__primary_switched/);
          const symbols = SymbolFile.open((await vmlinux()).file);
          const linked = symbols.locationsOf('init/main.c', line)[0]?.address ?? 0n;
          symbols.close();
          const slide = (await user.pc()) - linked;
          assert.ok(slide > 0n && slide % 0x10000n === 0n, `moved by 0x${slide.toString(16)}`);
          assert.match(await user.evaluate('init_task.comm'), /swapper/);
          assert.equal((await user.go('next')).reason, 'step');
          assert.ok(((await user.frames())[0]?.line ?? 0) > line);

          assert.equal((await user.go('continue')).reason, 'function breakpoint');
          assert.match((await user.frames())[0]?.name ?? '', /run_init_process/);
          await user.client.request('continue', { threadId: user.threadId });
          assert.equal((await user.client.waitFor('exited')).body.exitCode, 0);
          await user.leave(true);
          await noStrays(adapter);
        });
      });
    }

    test('symbols of another build are refused at an attach, and at a launch that names no kernel', {
      skip: unlessPresent(attachTo),
    }, async (context) => {
      const refusal = /not of the kernel that runs: it has build-id [0-9a-f]{40}, .*other-vmlinux has (aa){20}/;
      const { vm, pid } = await runGuest(adapter, attachTo, 4, context);
      const command = guestWords(guestCommand(attachTo, '', { cpus: 1 }));
      for (const configuration of [
        { request: 'attach', pid },
        { request: 'launch', command, console: 'internalConsole' },
      ] as const) {
        await session(adapter, async (user) => {
          const symbols = '/job/other-vmlinux';
          await assert.rejects(user.begin(configuration.request, { type: 'kvm', symbols, ...configuration }), refusal);
        });
      }
      assert.equal((await vm.ended).status, 0, 'the guest is as it was');
      await noStrays(adapter);
    });

    test('attach to a kernel that has moved itself', { skip: unlessPresent(attachTo) }, async (context) => {
      const { vm, pid } = await runGuest(adapter, attachTo, 8, context, { kaslr: true });
      await session(adapter, async (user) => {
        await user.begin('attach', { type: 'kvm', pid, symbols: '/lab/vmlinux' }, async () => {
          await user.client.request('setFunctionBreakpoints', { breakpoints: [{ name: 'hrtimer_nanosleep' }] });
        });
        assert.equal((await user.stopped()).reason, 'function breakpoint');
        const names = (await user.frames()).map(({ name }) => name).join(' ');
        assert.match(names, /hrtimer_nanosleep.* el0_svc/);
        await user.leave(false);
        assert.equal((await vm.ended).status, 0);
        await noStrays(adapter);
      });
    });

    test('attach to a kernel that has unmapped itself from user space (KPTI)', {
      skip: unlessPresent(attachTo),
    }, async (context) => {
      const { vm, pid } = await runGuest(adapter, attachTo, 8, context, { kaslr: true }, 'spin');
      await session(adapter, async (user) => {
        const paused = async (): Promise<boolean> => {
          assert.equal((await user.go('pause')).reason, 'pause');
          for (const { id } of (await user.client.request('threads')).threads) {
            user.threadId = id;
            if ((await user.pc()) < 1n << 55n) return true;
          }
          await user.client.request('continue', { threadId: user.threadId });
          return false;
        };
        await user.begin('attach', { type: 'kvm', pid, symbols: '/lab/vmlinux' });
        user.threadId = (await user.client.request('threads')).threads[0].id;
        for (let round = 0; !(await paused()); round++) assert.ok(round < 50, 'no vCPU was ever in user space');
        const frameId = (await user.frames())[0]?.id;
        const { result } = await user.client.request('evaluate', { expression: 'init_task.comm', frameId });
        assert.match(result, /swapper/, 'the kernel is read from user space');
        const { breakpoints } = await user.client.request('setFunctionBreakpoints', {
          breakpoints: [{ name: '__arm64_sys_getppid' }],
        });
        assert.equal(breakpoints[0].verified, true, breakpoints[0].message);
        assert.equal((await user.go('continue')).reason, 'function breakpoint');
        await user.leave(false);
        assert.equal((await vm.ended).status, 0);
        await noStrays(adapter);
      });
    });

    // The Neoverse has atomic instructions instead, and the kernel uses them.
    if (cpu === 'cortex-a72') {
      test('an exclusive sequence counts as one instruction', async () => {
        await session(adapter, async (user) => {
          await user.begin('launch', guestConfiguration('qemu'), async () => {
            await user.client.request('setFunctionBreakpoints', { breakpoints: [{ name: 'mutex_lock' }] });
          });
          await user.stopped();
          await user.go('continue');
          const { instructions } = await user.client.request('disassemble', {
            memoryReference: `0x${(await user.pc()).toString(16)}`,
            instructionCount: 40,
          });
          const find = (pattern: RegExp, from = 0): number =>
            instructions.findIndex(
              (row: { instruction: string }, n: number) => n >= from && pattern.test(row.instruction),
            );
          const load = find(/^ldaxr/);
          const store = find(/^stl?xr/, load);
          const instructionReference = instructions[load].address;
          await user.client.request('setInstructionBreakpoints', { breakpoints: [{ instructionReference }] });
          assert.equal((await user.go('continue')).reason, 'instruction breakpoint');
          assert.equal((await user.go('stepIn', { granularity: 'instruction' })).reason, 'step');
          assert.equal(await user.pc(), BigInt(instructions[store].address) + 4n);
          const [, status] = /w(\d+),/.exec(instructions[store].instruction) ?? [];
          assert.match(await user.evaluate(`$x${status}`), /^0/, 'the store succeeded');
          await user.leave(true);
        });
      });
    }

    test(`attach to ${attachTo}: pause, breakpoints while running, detach`, {
      skip: unlessPresent(attachTo),
    }, async (context) => {
      const { vm, pid } = await runGuest(adapter, attachTo, 15, context);
      const maps = `grep -c . /proc/${pid}/maps`;
      const before = (await adapter.lab.run(maps)).output;
      await session(adapter, async (user) => {
        await user.begin('attach', { type: 'kvm', pid, symbols: '/lab/vmlinux' });
        const { threads } = await user.client.request('threads');
        user.threadId = threads[0].id;
        assert.equal((await user.go('pause')).reason, 'pause');
        await user.client.request('continue', { threadId: user.threadId });
        const { breakpoints } = await user.client.request('setFunctionBreakpoints', {
          breakpoints: [{ name: 'hrtimer_nanosleep' }],
        });
        assert.equal(breakpoints[0].verified, true, breakpoints[0].message);
        assert.equal((await user.stopped()).reason, 'function breakpoint');
        assert.match((await user.frames())[0]?.name ?? '', /hrtimer_nanosleep/);
        const names = (await user.frames()).map(({ name }) => name).join(' ');
        assert.match(names, /el0_svc/, 'unwound to the system call');
        const again = await user.go('continue');
        assert.equal(again.reason, 'function breakpoint');
        await user.leave(false);
        assert.equal((await adapter.lab.run(maps)).output, before, 'nothing of ours is mapped in the VMM');
        const { status, output } = await vm.ended;
        assert.equal(status, 0);
        assert.match(output, /GUEST-TICK 15[\s\S]*GUEST-POWEROFF/);
        assert.doesNotMatch(output, /KVM_EXIT|Registers:|Unhandled|debug exit/i);
        await noStrays(adapter);
      });
    });
  });
}

suite(
  'neoverse-n1',
  [
    ['kvmtool', 1],
    ['kvmtool', 2],
    ['qemu', 2],
  ],
  'kvmtool',
);
suite(
  'cortex-a72',
  [
    ['kvmtool', 2],
    ['qemu', 1],
    ['qemu', 2],
  ],
  'qemu',
);

describe('adapter', () => {
  let adapter: AdapterInLab;
  before(async () => {
    adapter = await startAdapterInLab();
  });
  after(() => adapter.close());
  const vmm: Vmm = lkvm() === undefined ? 'qemu' : 'kvmtool';

  test('at the call of an inlined function its caller is seen, unless the breakpoint is on that function', async () => {
    await session(adapter, async (user) => {
      const line = await lineOf('setup_command_line');
      await user.begin('launch', guestConfiguration(vmm), async () => {
        await user.client.request('setFunctionBreakpoints', { breakpoints: [{ name: 'setup_boot_config' }] });
        await user.breakAt(line, { condition: 'command_line != 0' });
      });
      const seen = async (): Promise<unknown[]> =>
        (await user.frames()).slice(0, 2).map((frame) => [frame.name, frame.line]);
      await user.stopped();
      assert.equal((await user.go('continue')).reason, 'function breakpoint');
      const [inlined, caller] = await seen();
      assert.match(`${inlined}`, /^setup_boot_config,/);
      assert.deepEqual(caller, ['start_kernel', line - 1]);
      assert.equal((await user.go('continue')).reason, 'breakpoint');
      assert.deepEqual((await seen())[0], ['start_kernel', line]);
      assert.match(await user.evaluate('command_line'), /^0x/);
      const call = await user.pc();
      assert.equal((await user.go('stepIn')).reason, 'step');
      assert.match(`${(await seen())[0]}`, /^setup_command_line,/);
      assert.equal(await user.pc(), call, 'nothing of it is executed yet');
      assert.equal((await user.go('stepOut')).reason, 'step');
      assert.match(`${(await seen())[0]}`, /^start_kernel,/);
      await user.leave(true);
      await noStrays(adapter);
    });
    await session(adapter, async (user) => {
      const line = await lineOf('setup_boot_config');
      await user.begin('launch', guestConfiguration(vmm), async () => {
        await user.breakAt(line);
      });
      await user.stopped();
      for (const expected of [line, line + 1, line + 2]) {
        await user.go(expected === line ? 'continue' : 'next');
        const [frame] = await user.frames();
        assert.deepEqual([frame?.name, frame?.line], ['start_kernel', expected]);
      }
      await user.leave(true);
    });
  });

  test('breakpoints of every kind', async () => {
    await session(adapter, async (user) => {
      const line = await lineOf('boot_cpu_init');
      await user.begin('launch', guestConfiguration(vmm, { parameters: 'guest.do=ticks' }), async () => {
        await user.breakAt(line);
      });
      await user.stopped();
      await user.go('continue');
      await user.breakAt(line, { condition: '0' });

      const nextPc = (await user.pc()) + 4n;
      await user.client.request('setInstructionBreakpoints', {
        breakpoints: [{ instructionReference: `0x${nextPc.toString(16)}` }],
      });
      assert.equal((await user.go('continue')).reason, 'instruction breakpoint');
      assert.equal(await user.pc(), nextPc);
      await user.client.request('setInstructionBreakpoints', { breakpoints: [] });

      const name = (await user.evaluate('&jiffies')).split(' ')[0];
      const { dataId } = await user.client.request('dataBreakpointInfo', { name, bytes: 8, asAddress: true });
      const data = await user.client.request('setDataBreakpoints', {
        breakpoints: [{ dataId, accessType: 'write' }],
      });
      assert.equal(data.breakpoints[0].verified, true, data.breakpoints[0].message);
      const written = await user.go('continue');
      assert.equal(written.reason, 'data breakpoint');
      const [, old = 0, now = 0] = /which were (0x\w+) and are (0x\w+)/.exec(written.description) ?? [];
      assert.equal(BigInt(now), BigInt(old) + 1n, written.description);
      await user.client.request('setDataBreakpoints', { breakpoints: [] });

      const hits = await user.client.request('setFunctionBreakpoints', {
        breakpoints: [{ name: 'hrtimer_nanosleep', hitCondition: '3' }],
      });
      assert.equal(hits.breakpoints[0].verified, true, hits.breakpoints[0].message);
      assert.equal((await user.go('continue')).reason, 'function breakpoint');
      await user.leave(true);
    });
  });

  test('variables and expressions, inner and outer frames', async () => {
    await session(adapter, async (user) => {
      const line = await lineOf('boot_cpu_init');
      await user.begin('launch', guestConfiguration('qemu'), async () => {
        await user.breakAt(line);
        await user.client.request('setFunctionBreakpoints', { breakpoints: [{ name: 'do_sys_openat2' }] });
      });
      await user.stopped();
      await user.go('continue');
      const variables = async (frame: number, scope: string) => {
        const { scopes } = await user.client.request('scopes', { frameId: (await user.frames())[frame]?.id });
        const { variablesReference } = scopes.find(({ name }: { name: string }) => name === scope) ?? {};
        return (await user.client.request('variables', { variablesReference })).variables;
      };
      const find = (list: { name: string; type: string; value: string }[], name: string) =>
        list.find((each) => each.name === name);
      const line0 = find(await variables(0, 'Locals'), 'command_line');
      assert.equal(line0?.type, 'char *');
      const table: [string, string | RegExp][] = [
        ['init_task.comm', '"swapper"'],
        ['&init_task', /^0xffff[0-9a-f]{12} <init_task>$/],
        ['container_of(&init_task.tasks, struct task_struct, tasks) == &init_task', '1'],
        ['sizeof(struct list_head)', '16'],
        ['offsetof(struct list_head, prev)', '8'],
        ['((struct task_struct *)$sp_el0)->pid', '0'],
        ['TASK_COMM_LEN', 'TASK_COMM_LEN (16)'],
        ['init_task.comm[0..4],x', '{0x73, 0x77, 0x61, 0x70}'],
        ['system_state', 'SYSTEM_BOOTING (0)'],
      ];
      for (const [expression, expected] of table) {
        const result = await user.evaluate(expression);
        if (typeof expected === 'string') assert.equal(result, expected, expression);
        else assert.match(result, expected, expression);
      }
      assert.equal(await user.evaluate('init_task.prio = 77'), '77');
      assert.equal(await user.evaluate('init_task.prio'), '77');
      await user.go('continue');
      const filename = find(await variables(0, 'Arguments'), 'filename');
      assert.equal(filename?.type, 'const char *');
      assert.match(filename?.value ?? '', /^0x[0-9a-f]+/);
      const names = (await user.frames()).map(({ name }) => name);
      assert.ok(names.length > 3 && names.some((name) => name.includes('openat')), names.join());
      await user.leave(true);
    });
  });

  test('registers and memory: set, read back, refused', async () => {
    await session(adapter, async (user) => {
      await user.begin('launch', guestConfiguration(vmm));
      await user.stopped();
      const [frame] = await user.frames();
      const { scopes } = await user.client.request('scopes', { frameId: frame?.id });
      const variablesReference = scopes[0].variablesReference;
      await user.client.request('setVariable', { variablesReference, name: 'x20', value: '0xfedcba9876543210' });
      assert.match(await user.evaluate('$x20'), /0xfedcba9876543210/);
      const wide = { variablesReference, name: 'x20', value: '0x10000000000000000' };
      assert.match(await user.client.refused('setVariable', wide), /x20|64/);
      const memoryReference = `0x${(await user.pc()).toString(16)}`;
      const { data } = await user.client.request('readMemory', { memoryReference, count: 64 });
      const image = await adapter.lab.run('head -c 64 /lab/guest/Image | od -An -tx1 | tr -d " \\n"');
      assert.equal(Buffer.from(data, 'base64').toString('hex'), image.output, 'the kernel image, as loaded');
      const nowhere = await user.client.send('readMemory', { memoryReference: '0x10000', count: 16 }).response;
      assert.ok(!nowhere.success || (nowhere.body.unreadableBytes > 0 && !nowhere.body.data), 'no memory there');
      await user.leave(true);
    });
  });

  for (const state of ['stopped', 'running'] as const) {
    test(`SIGKILL of the adapter while attached and ${state}`, async (context) => {
      const { vm, pid } = await runGuest(adapter, vmm, 14, context);
      const second = await adapter.another();
      await session(second, async (user) => {
        await user.begin('attach', { type: 'kvm', pid, symbols: '/lab/vmlinux', stopOnEntry: true });
        await user.stopped();
        await user.client.request('setFunctionBreakpoints', { breakpoints: [{ name: 'hrtimer_nanosleep' }] });
        await user.go('continue');
        if (state === 'running') {
          await user.client.request('setFunctionBreakpoints', { breakpoints: [{ name: 'do_sys_openat2' }] });
          await user.client.request('continue', { threadId: user.threadId });
        }
        await second.kill();
        await vm.waitFor(/GUEST-TICK 8[\r\n]/);
        await session(adapter, async (again) => {
          await again.begin('attach', { type: 'kvm', pid, symbols: '/lab/vmlinux', stopOnEntry: true });
          await again.stopped();
          const symbols = SymbolFile.open((await vmlinux()).file);
          for (const name of ['hrtimer_nanosleep', 'do_sys_openat2']) {
            const address = symbols.functionBreakpoint(name)[0]?.address ?? 0n;
            const { data } = await again.client.request('readMemory', {
              memoryReference: `0x${address.toString(16)}`,
              count: 4,
            });
            assert.notEqual(Buffer.from(data, 'base64').toString('hex'), '000020d4', 'no BRK is left');
          }
          symbols.close();
          await again.leave(false);
          assert.equal((await vm.ended).status, 0);
        });
      });
    });
  }

  test('a launched VM ends with a SIGKILLed adapter', async () => {
    const second = await adapter.another();
    await session(second, async (user) => {
      await user.begin('launch', guestConfiguration(vmm, { cpus: 2 }));
      await user.stopped();
      await second.kill();
      await noStrays(adapter);
    });
  });

  test('bad input: one sentence that names what is wrong', async () => {
    const refusal = async (request: string, configuration: object): Promise<string> => {
      const user = await User.of(adapter);
      const message = await user.client.refused(request, configuration);
      user.client.close();
      await user.client.closed;
      return message;
    };
    const good = guestConfiguration(vmm);
    assert.match(await refusal('attach', { pid: 999999 }), /999999/);
    assert.match(await refusal('attach', { pid: 1 }), /pid 1\).*no VMM/);
    assert.match(await refusal('launch', { ...good, kernel: '/nowhere/Image' }), /\/nowhere\/Image/);
    assert.match(await refusal('launch', { ...good, symbols: '/lab/guest/Image' }), /\/lab\/guest\/Image/);
    assert.match(await refusal('launch', { ...good, vmmPath: 'no-such-vmm' }), /no-such-vmm.*PATH/);
    assert.match(await refusal('launch', { ...good, cpus: 'two' }), /cpus/);
    assert.match(await refusal('launch', { ...good, vmmArgs: ['--no-such-option'] }), /no-such-option/);
    await noStrays(adapter);
    await adapter.lab.run('mv /dev/kvm /dev/kvm-away');
    try {
      assert.match(await refusal('launch', good), /\/dev\/kvm/);
    } finally {
      await adapter.lab.run('mv /dev/kvm-away /dev/kvm');
    }
  });
});
