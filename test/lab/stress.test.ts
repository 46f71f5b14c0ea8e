// Steps, and breakpoints that come and go, in a Linux guest under load, through the adapter: source steps at random places,
// on 2 and on 4 vCPUs together; a tenth of that is how often breakpoints are set and cleared while the guest runs.
import assert from 'node:assert/strict';
import { after, before, describe, type TestContext, test } from 'node:test';
import { vmlinux } from '../../lab/lab.ts';
import { SymbolFile } from '../../src/symbols/image.ts';
import { type RandomSource, randomSource } from '../arch/random.ts';
import { type AdapterInLab, startAdapterInLab } from '../support/labAdapter.ts';
import { runGuest, session, type User, unlessPresent } from '../support/labUser.ts';

const steps = Number(process.env.STRESS ?? (process.env.LAB_COUNTS === 'full' ? 10_000 : 240));
const vmm = 'kvmtool';

/** Where the load goes through: system calls, files, memory, the scheduler, processes that come and go. */
const places = [
  ...['do_sys_openat2', 'path_openat', 'link_path_walk', 'vfs_read', 'vfs_write', 'ksys_read', 'filp_close', '__fput'],
  ...['pipe_read', 'pipe_write', 'seq_read_iter', 'show_map_vma', 'generic_perform_write', 'simple_write_begin'],
  ...['handle_mm_fault', 'do_anonymous_page', 'do_wp_page', 'do_mmap', 'unmap_region', '__vm_munmap', 'vma_link'],
  ...['kernel_clone', 'copy_process', 'dup_mm', 'wait_consider_task', 'begin_new_exec', 'load_elf_binary'],
  ...['schedule', 'pick_next_task_fair', 'try_to_wake_up', 'hrtimer_nanosleep', 'do_nanosleep', 'hrtimer_wakeup'],
  ...['__arm64_sys_getppid', 'do_notify_resume', 'tick_sched_timer', '__do_softirq'],
];

/** `current`, where the kernel runs: it is in SP_EL0 there (arch/arm64 asm/current.h), which is the program's stack pointer
 *  in user space. */
async function task(user: User): Promise<bigint | undefined> {
  const value = BigInt((await user.evaluate('$sp_el0')).split(' ')[0] ?? 0);
  return value >> 63n === 0n ? undefined : value;
}

async function breakAt(user: User, ...names: readonly string[]): Promise<void> {
  const { breakpoints } = await user.client.request('setFunctionBreakpoints', {
    breakpoints: names.map((name) => ({ name })),
  });
  for (const [index, { verified, message }] of breakpoints.entries()) {
    assert.equal(verified, true, `${names[index]}: ${message}`);
  }
}

/** PF_KTHREAD (include/linux/sched.h). */
const kernelThread = 0x0020_0000;

/** Some steps from where a breakpoint was hit; the same task makes them all, wherever it wakes up. None where the task may not
 *  come back, because it is about to end, or waits for work that nobody has for it. Ends early in user space, or where there
 *  is nothing to step out to. */
async function walk(user: User, count: number, random: RandomSource): Promise<{ made: number; moves: number }> {
  const way: string[] = [];
  let moves = 0;
  if ((await user.frames()).some(({ name }) => name === 'do_exit')) return { made: 0, moves };
  const current = '((struct task_struct *)$sp_el0)';
  if ((Number.parseInt(await user.evaluate(`${current}->flags`), 10) & kernelThread) !== 0) return { made: 0, moves };
  const start = `${await user.evaluate(`${current}->comm`)} in ${(await user.frames())[0]?.name}`;
  let before = await task(user);
  for (let made = 0; made < count; made++) {
    const kind = ['next', 'next', 'next', 'stepIn', 'stepOut'][random.below(5)] ?? 'next';
    way.push(kind);
    if (before === undefined || (kind === 'stepOut' && (await user.frames()).length < 2)) return { made, moves };
    const { threadId } = user;
    const stop = await user.go(kind).catch((cause) => {
      throw new Error(`${start}: ${way.join(', ')} does not end`, { cause });
    });
    assert.equal(stop.reason, 'step', `${start}: ${stop.description} after ${way.join(', ')}`);
    if (user.threadId !== threadId) moves += 1;
    const now = await task(user);
    if (now !== undefined && now !== before) {
      const names = (await user.frames()).map(({ name, line }) => `${name}:${line}`);
      assert.fail(`${start}: another task after ${way.join(', ')}, at ${names.join(' < ')}`);
    }
    before = now;
  }
  return { made: count, moves };
}

describe('under load', () => {
  let adapter: AdapterInLab;
  before(async () => {
    adapter = await startAdapterInLab();
  });
  after(() => adapter.close());

  for (const cpus of [2, 4]) {
    const attached = async (context: TestContext, work: (user: User) => Promise<void>): Promise<void> => {
      const { vm, pid } = await runGuest(adapter, vmm, 0, context, { cpus }, 'load');
      await session(adapter, async (user) => {
        await user.begin('attach', { type: 'kvm', pid, symbols: '/lab/vmlinux', stopOnEntry: true });
        await user.stopped();
        await work(user);
        await user.leave(false);
      });
      const from = vm.output.length;
      await vm.waitFor(new RegExp(`^[^]{${from}}[^]*GUEST-TICK \\d+[^]*GUEST-TICK \\d+`));
      assert.doesNotMatch(vm.output, /BUG|Oops|Unable to handle|KVM exit/);
    };

    test(`source steps with ${cpus} vCPUs`, { skip: unlessPresent(vmm), timeout: 7_200_000 }, async (context) => {
      await attached(context, async (user) => {
        const random = randomSource(cpus);
        let moves = 0;
        for (let made = 0; made < steps / 2; ) {
          const place = places[random.below(places.length)] ?? '';
          await breakAt(user, place);
          assert.equal((await user.go('continue')).reason, 'function breakpoint', place);
          await breakAt(user);
          const way = await walk(user, 5 + random.below(20), random);
          made += way.made;
          moves += way.moves;
        }
        context.diagnostic(`${moves} steps came to their end on another vCPU`);
      });
    });

    test(`breakpoints set and cleared while ${cpus} vCPUs run`, {
      skip: unlessPresent(vmm),
      timeout: 7_200_000,
    }, async (context) => {
      const kernel = SymbolFile.open((await vmlinux()).file);
      context.after(() => kernel.close());
      await attached(context, async (user) => {
        const random = randomSource(cpus);
        await user.client.request('continue', { threadId: user.threadId });
        for (let round = 0; round < steps / 10 / 2; round++) {
          const some = Array.from({ length: 1 + random.below(8) }, () => places[random.below(places.length)] ?? '');
          const { breakpoints } = await user.client.request('setFunctionBreakpoints', {
            breakpoints: [...new Set(some)].map((name) => ({ name, condition: '0' })),
          });
          for (const { verified, message } of breakpoints) assert.equal(verified, true, message);
        }
        await breakAt(user);
        assert.equal((await user.go('pause')).reason, 'pause');
        assert.equal(user.client.events('stopped').length, 2, 'the entry and the pause');
        for (const name of places) {
          const address = kernel.functionBreakpoint(name)[0]?.address ?? 0n;
          const memoryReference = `0x${address.toString(16)}`;
          const { data } = await user.client.request('readMemory', { memoryReference, count: 4 });
          assert.notEqual(Buffer.from(data, 'base64').readUInt32LE(), 0xd420_0000, `BRK is left at ${name}`);
        }
      });
    });
  }
});
