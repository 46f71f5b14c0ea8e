/** The debugger's breakpoints, watchpoints and steps on a guest that has handlers of its own, as far as Linux
 *  tools/testing/selftests/kvm/arm64/debug-exceptions.c tries them from user space, and beyond. */
import assert from 'node:assert/strict';
import { Gva } from '../../../src/base/address.ts';
import type { StopPoint, StopPointId, WatchAccess } from '../../../src/target/target.ts';
import { place as routine, image as routines } from './bareGuest.ts';
import { Bare, EL1H, gic } from './bareVm.ts';
import { assertExceptions, esr, go, image, NZCV, place } from './exceptionsGuest.ts';
import { check } from './report.ts';
import { missing, type Vmm, vmms } from './vms.ts';

const EL1T = 0x3c4n;
const EL0 = 0n;

const point = {
  breakpoint: (bare: Bare, name: string, kind: 'software' | 'hardware'): StopPoint => ({
    kind,
    address: bare.at(place(name)),
  }),
  watch: (address: Gva, length: number, access: WatchAccess): StopPoint => ({ kind: 'watch', address, length, access }),
} as const;

async function everyNumber(bare: Bare): Promise<void> {
  const { target } = bare;
  const { hardwareBreakpoints, hardwareWatchpoints } = target.capabilities;
  const data = bare.at(place('scratch'));
  for (let b = 0; b < hardwareBreakpoints; b++) {
    for (let w = 0; w < hardwareWatchpoints; w++) {
      const what = `breakpoint ${b}, watchpoint ${w}`;
      const fillers: StopPointId[] = [];
      for (let index = 0n; index < b; index++) {
        fillers.push(await target.insert({ kind: 'hardware', address: bare.at(place('own') + 4n * index) }, 0));
      }
      for (let index = 1n; index <= w; index++) {
        fillers.push(await target.insert(point.watch(Gva(data + 8n * index), 8, 'readWrite'), 0));
      }
      const breakpoint = await target.insert(point.breakpoint(bare, 'pointBreak', 'hardware'), 0);
      const watch = await target.insert(point.watch(data, 8, 'write'), 0);
      await bare.store(data, 0n);
      await go(bare, 'points', { x0: data, x19: 41n });
      const [first] = await target.resume();
      const pc = bare.at(place('pointBreak'));
      assert.deepEqual(first, { kind: 'breakpoint', vcpu: 0, pc, ids: [breakpoint] }, what);
      assert.equal(await bare.get('x19'), 41n, what);
      const [second] = await target.resume();
      const store = bare.at(place('pointWatch'));
      assert.deepEqual(second, { kind: 'watchpoint', vcpu: 0, pc: store, accessed: data, ids: [watch] }, what);
      assert.equal(await bare.get('x19'), 42n, what);
      assert.equal(await bare.word(data), 0n, what);
      await bare.until(0xf10);
      assert.equal(await bare.word(data), 42n, what);
      assert.equal(await bare.get('x0'), data + 8n, what);
      for (const id of [...fillers, breakpoint, watch]) await target.remove(id);
    }
  }
}

/** The states that code of the guest is tried in, and the vector of their synchronous exceptions. */
const sources = [
  { pstate: EL1H, vector: 0x200n },
  { pstate: 5n, vector: 0x200n },
  { pstate: EL1T, vector: 0n },
  { pstate: EL0, vector: 0x400n },
  { pstate: EL0 | 0x340n, vector: 0x400n },
] as const;

/** A breakpoint on SVC is hit before it executes, and then it does, once, whether it is stepped or the guest runs on. */
async function breakpointOnCall(bare: Bare): Promise<void> {
  const { target } = bare;
  const pc = bare.at(place('call'));
  for (const kind of ['hardware', 'software'] as const) {
    for (const { pstate, vector } of sources) {
      const taken = { vector, esr: esr.svc(0x21n), elr: pc + 4n, spsr: pstate, far: 0n, mdscr: 0n };
      for (const stepped of [true, false]) {
        const what = `${kind}, PSTATE ${pstate.toString(16)}, ${stepped ? 'stepped' : 'resumed'}`;
        const id = await target.insert(point.breakpoint(bare, 'call', kind), 0);
        await go(bare, 'call', { pstate });
        assert.deepEqual(await target.resume(), [{ kind: 'breakpoint', vcpu: 0, pc, ids: [id] }], what);
        await assertExceptions(bare, [], what);
        if (stepped) {
          const entry = bare.at(place('vectors') + vector);
          assert.deepEqual(await target.step(0), [{ kind: 'step', vcpu: 0, pc: entry }], what);
          assert.equal(await bare.get('elr_el1'), pc + 4n, what);
          assert.equal((await bare.get('spsr_el1')) & ~NZCV, pstate, what);
          assert.equal(await bare.get('esr_el1'), esr.svc(0x21n), what);
          assert.equal((await bare.get('pstate')) & 0x3cfn, EL1H, what);
        }
        await bare.until(0xf11);
        await assertExceptions(bare, [taken], what);
        await target.remove(id);
      }
    }
  }
}

/** Breakpoint instructions of the guest one behind the other, with and without one of the debugger's there. */
async function breakpointInstructionsInARow(bare: Bare): Promise<void> {
  const { target } = bare;
  for (const { pstate, vector } of sources) {
    const at = (index: bigint): Gva => bare.at(place('row') + 4n * index);
    const taken = [0n, 1n, 2n].map((index) => ({
      vector,
      esr: esr.brk(0x74n + index),
      elr: at(index),
      spsr: pstate,
      far: 0n,
      mdscr: 0n,
    }));
    const what = `PSTATE ${pstate.toString(16)}`;
    bare.givenBack = 0;
    await go(bare, 'row', { pstate });
    await bare.until(0xf12);
    await assertExceptions(bare, taken, what);
    assert.equal(bare.givenBack, 3, what);

    for (const kind of ['hardware', 'software'] as const) {
      const id = await target.insert({ kind, address: at(1n) }, 0);
      await go(bare, 'row', { pstate });
      const stop = [{ kind: 'breakpoint', vcpu: 0, pc: at(1n), ids: [id] }];
      assert.deepEqual(await target.resume(), stop, `${what}, ${kind}`);
      await assertExceptions(bare, taken.slice(0, 1), `${what}, ${kind}`);
      await bare.until(0xf12);
      await assertExceptions(bare, taken, `${what}, ${kind}`);
      await target.remove(id);
    }

    await go(bare, 'row', { pstate });
    for (let steps = 0; (await bare.get('pc')) !== at(3n); steps++) {
      assert.ok(steps < 200, what);
      assert.equal((await target.step(0))[0]?.kind, 'step', what);
    }
    await assertExceptions(bare, taken, `${what}, stepped`);
  }
}

interface Access {
  readonly name: string;
  readonly kind: 'read' | 'write';
  /** From x0 to the bytes that are watched. */
  readonly offset: bigint;
  /** How far x0 is moved. */
  readonly moved: bigint;
  /** The instruction, from the label. */
  readonly at?: string;
}

const accesses: readonly Access[] = [
  { name: 'storeAfter', kind: 'write', offset: 0n, moved: 8n },
  { name: 'storeBefore', kind: 'write', offset: 8n, moved: 8n },
  { name: 'storePair', kind: 'write', offset: 0n, moved: 16n },
  { name: 'storePair', kind: 'write', offset: 8n, moved: 16n },
  { name: 'loadAfter', kind: 'read', offset: 0n, moved: 8n },
  { name: 'loadPair', kind: 'read', offset: 8n, moved: 16n },
];

/** The pc is at the access, which has not executed; then it does, once. */
async function watchedAccess(bare: Bare): Promise<void> {
  const { target } = bare;
  const data = bare.at(place('scratch'));
  for (const { name, kind, offset, moved } of accesses) {
    for (const pstate of [EL1H, EL0]) {
      for (const access of [kind, 'readWrite'] as const) {
        for (const stepped of [true, false]) {
          const what = `${name} at ${offset}, PSTATE ${pstate.toString(16)}, ${access}, ${stepped ? 'stepped' : 'resumed'}`;
          const id = await target.insert(point.watch(Gva(data + offset), 8, access), 0);
          await bare.store(data, 0x11n, 0x22n, 0x33n);
          await go(bare, name, { pstate, x0: data, x3: 0xaan, x4: 0xbbn, x5: 0n, x6: 0n });
          const pc = bare.at(place(name));
          const [event, ...more] = await target.resume();
          assert.ok(event?.kind === 'watchpoint', `${what}: ${event?.kind}`);
          assert.deepEqual([event.pc, event.ids, more], [pc, [id], []], what);
          assert.ok(event.accessed >= data && event.accessed <= data + offset, `${what}: ${event.accessed}`);
          assert.equal(await bare.get('x0'), data, what);
          assert.equal(await bare.get('x5'), 0n, what);
          // The other half of a pair may have been stored.
          assert.equal(await bare.word(data + offset), offset === 0n ? 0x11n : 0x22n, what);
          if (stepped) {
            assert.deepEqual(await target.step(0), [{ kind: 'step', vcpu: 0, pc: Gva(pc + 4n) }], what);
            assert.equal(await bare.get('x0'), data + moved, what);
          }
          await bare.until(0xf13);
          assert.equal(await bare.get('x0'), data + moved, what);
          if (kind === 'write')
            assert.equal(await bare.word(data + offset), offset === 8n && moved === 16n ? 0xbbn : 0xaan, what);
          else assert.equal(await bare.get('x5'), 0x11n, what);
          await assertExceptions(bare, [], what);
          await target.remove(id);
        }
      }
    }
  }
}

/** The hit of a watched exclusive store costs it the reservation; it is stored all the same, and reported once, also when a
 *  step carries it out: with its next try, as one. */
async function watchedExclusiveStore(bare: Bare): Promise<void> {
  const { target } = bare;
  const data = bare.at(place('scratch'));
  for (const [access, steps] of [
    ['write', false],
    ['write', true],
    ['read', false],
    ['readWrite', false],
  ] as const) {
    const id = await target.insert(point.watch(data, 8, access), 0);
    await bare.store(data, 7n);
    await go(bare, 'storeExclusive', { x0: data });
    const hits: bigint[] = [];
    for (let round = 0; ; round++) {
      assert.ok(round < 10, `${access}: hit at ${hits.map((pc) => (pc - bare.base).toString(16))}`);
      const [event] = await target.resume();
      if (event?.kind === 'guestTrap') break;
      assert.ok(event?.kind === 'watchpoint', `${access}: ${event?.kind}`);
      assert.deepEqual(event.ids, [id]);
      assert.equal(await bare.word(data), 7n, access);
      hits.push(event.pc);
      if (!steps) continue;
      const pc = Gva(bare.at(place('storeExclusiveAt')) + 4n);
      assert.deepEqual(await target.step(0), [{ kind: 'step', vcpu: 0, pc }]);
      assert.equal(await bare.get('x6'), 0n, 'the store succeeded');
      assert.equal(await bare.word(data), 8n);
    }
    assert.equal(await bare.word(data), 8n, access);
    const load = bare.at(place('storeExclusive'));
    const store = bare.at(place('storeExclusiveAt'));
    assert.deepEqual(hits, access === 'write' ? [store] : [load], access);
    await target.remove(id);
  }
}

/** Steps over writes to system registers, MDSCR_EL1 among them: the guest reads back what it wrote, and none of its handlers
 *  is entered. */
async function steppedWrites(bare: Bare, rounds: number): Promise<void> {
  const { target } = bare;
  const [begin, end] = [bare.at(place('writtenBegin')), bare.at(place('writtenEnd'))];
  const id = await target.insert(point.breakpoint(bare, 'writtenBegin', 'hardware'), 0);
  await go(bare, 'written', { x0: BigInt(rounds) });
  for (let round = 0; round < rounds; round++) {
    assert.deepEqual(await target.resume(), [{ kind: 'breakpoint', vcpu: 0, pc: begin, ids: [id] }], `round ${round}`);
    assert.equal(await bare.get('x21'), BigInt(round));
    assert.equal(await bare.get('x26'), 0n, `before round ${round}`);
    for (let pc = begin; pc < end; pc = Gva(pc + 4n)) {
      assert.deepEqual(await target.step(0), [{ kind: 'step', vcpu: 0, pc: Gva(pc + 4n) }]);
    }
    const bits = BigInt(round);
    const mdscr = (bits & 1n) | (((bits >> 1n) & 1n) << 13n) | (((bits >> 2n) & 1n) << 15n);
    const expected = {
      x3: mdscr,
      x4: mdscr,
      x5: 4n * bits,
      x6: 4n * bits,
      x7: mdscr,
      x8: bits,
      mdscr_el1: mdscr,
      dbgbvr0_el1: 4n * bits,
    };
    const seen = await target.readRegisters(0, Object.keys(expected));
    assert.deepEqual(Object.fromEntries(seen), expected, `round ${round}`);
  }
  await target.remove(id);
  await bare.until(0xf15);
  assert.equal(await bare.get('x26'), 0n);
  await assertExceptions(bare, []);
}

/** The loop of `alternate` as it should be. */
class Loop {
  readonly values = { x19: 0n, x20: 0n, x22: 0n };
  pc: bigint;

  constructor(
    private readonly start: bigint,
    private readonly increment: bigint,
    private readonly masks: bigint,
    { pc, x19, x20, x22 }: Readonly<Record<'pc' | 'x19' | 'x20' | 'x22', bigint>>,
  ) {
    this.pc = pc;
    this.values = { x19, x20, x22 };
  }

  step(): void {
    const [x19, x20, x22] = [this.start, this.start + 4n, this.start + 8n];
    if (this.pc === x19) this.values.x19 += 1n;
    if (this.pc === x20) this.values.x20 += this.increment;
    if (this.pc === x22) this.values.x22 = this.masks;
    this.pc = this.pc === this.start + 12n ? this.start : this.pc + 4n;
  }
}

async function alternateSteps(vmm: Vmm): Promise<void> {
  const bare = await Bare.launch(vmm, image, { cpus: 2 });
  const { target } = bare;
  await go(bare, 'alternate');
  const start = bare.at(place('together'));
  const inside = (pc: bigint): boolean => pc >= start && pc < start + 16n;
  for (let round = 0; !(inside(await bare.get('pc', 0)) && inside(await bare.get('pc', 1))); round++) {
    assert.ok(round < 50, 'the second vCPU does not come up');
    await bare.runs(20);
  }
  const masks = [
    [0x3c0n, 0n],
    [0x080n, 0x340n],
    [0x200n, 0x1c0n],
    [0x040n, 0x100n],
  ] as const;
  const names = ['pc', 'pstate', 'x19', 'x20', 'x22'] as const;
  const state = async (vcpu: number): Promise<Record<(typeof names)[number], bigint>> => {
    const values = await target.readRegisters(vcpu, names);
    return Object.fromEntries(names.map((name) => [name, values.get(name) ?? -1n])) as never;
  };
  for (const [turn, daif] of masks.entries()) {
    const loops: Loop[] = [];
    for (const vcpu of [0, 1]) {
      const increment = BigInt(3 + 2 * vcpu + 10 * turn);
      await bare.set({ x21: increment, pstate: 5n | (daif[vcpu] ?? 0n) }, vcpu);
      loops.push(new Loop(start, increment, daif[vcpu] ?? 0n, await state(vcpu)));
    }
    for (let step = 0; step < 60; step++) {
      const vcpu = step % 5 < 3 ? step & 1 : (step >> 2) & 1;
      loops[vcpu]?.step();
      const pc = Gva(loops[vcpu]?.pc ?? 0n);
      assert.deepEqual(await target.step(vcpu), [{ kind: 'step', vcpu, pc }], `step ${step} of vCPU ${vcpu}`);
      for (const [other, loop] of loops.entries()) {
        const { pstate, ...rest } = await state(other);
        assert.deepEqual(rest, { pc: loop.pc, ...loop.values }, `vCPU ${other} after step ${step} of vCPU ${vcpu}`);
        assert.equal(pstate & 0x3cfn, 5n | (daif[other] ?? 0n), `PSTATE of vCPU ${other} after step ${step}`);
      }
    }
    // Running, each has its own masks too.
    await bare.runs(20);
    for (const vcpu of [0, 1]) {
      assert.equal((await bare.get('pstate', vcpu)) & 0x3cfn, 5n | (daif[vcpu] ?? 0n));
      assert.ok(inside(await bare.get('pc', vcpu)));
    }
  }
}

/** The steps of two vCPUs after a pause, each with an interrupt pending: not even the first goes to the handler. */
async function stepsAfterPause(vmm: Vmm): Promise<void> {
  const bare = await Bare.launch(vmm, routines(), { cpus: 2, traps: false });
  const { target } = bare;
  await bare.go(routine.both);
  for (let round = 0; (await bare.get('pc', 1)) < bare.at(routine.together); round++) {
    assert.ok(round < 50, 'the second vCPU does not come up');
    await bare.runs(20);
  }
  const [x0, redistributor] = gic[vmm](2);
  for (const vcpu of [0, 1]) {
    const x1 = redistributor + 0x2_0000n * BigInt(vcpu);
    await bare.set({ x0, x1, x19: 0n, x20: 0n, pstate: EL1H, pc: bare.at(routine.timer) }, vcpu);
  }
  const [first, last] = [bare.at(routine.ticking), bare.at(routine.ticking + 12n)];
  const places = async (): Promise<[bigint, bigint]> => [await bare.get('pc', 0), await bare.get('pc', 1)];
  let pauses = 0;
  for (let round = 0; pauses < 10; round++) {
    assert.ok(round < 200, `${pauses} pauses in the loop`);
    await bare.runs(5);
    const expected = await places();
    if (expected.some((pc) => pc < first || pc > last)) continue;
    const begin = pauses & 1;
    for (const vcpu of [begin, 1 - begin, 1 - begin, begin]) {
      for (const pending of [0, 1]) await bare.set({ cntv_cval_el0: 0n }, pending);
      const pc = expected[vcpu] === last ? first : Gva((expected[vcpu] ?? 0n) + 4n);
      expected[vcpu] = pc;
      assert.deepEqual(await target.step(vcpu), [{ kind: 'step', vcpu, pc }], `after pause ${pauses}`);
      assert.deepEqual(await places(), expected, 'only one has moved');
      for (const other of [0, 1]) assert.equal((await bare.get('pstate', other)) & 0x3cfn, EL1H & ~0x80n, 'own masks');
    }
    pauses += 1;
  }
  for (const vcpu of [0, 1])
    assert.ok((await bare.get('x19', vcpu)) > 0n, `vCPU ${vcpu} has taken interrupts in between`);
}

const scenes: readonly (readonly [string, (bare: Bare, vmm: Vmm) => Promise<void>])[] = [
  ['each breakpoint register with each watchpoint register', everyNumber],
  ['a breakpoint on SVC', breakpointOnCall],
  ['breakpoint instructions of the guest in a row', breakpointInstructionsInARow],
  ['a watched access has not executed, then does once', watchedAccess],
  ['a watched exclusive store', watchedExclusiveStore],
  ['steps over writes to system registers', (bare, vmm) => steppedWrites(bare, vmm === 'kvmtool' ? 100 : 16)],
];

for (const vmm of vmms) {
  const skip = missing(vmm);
  let bare: Bare | undefined;
  for (const [index, [name, scene]] of scenes.entries()) {
    const run = async (): Promise<void> => {
      bare ??= await Bare.launch(vmm, image);
      await scene(bare, vmm);
    };
    await check(`${vmm}: ${name}`, run, { skip, keep: index < scenes.length - 1 });
  }
  await check(`${vmm}: two vCPUs stepped in turn`, () => alternateSteps(vmm), { skip });
  await check(`${vmm}: two vCPUs stepped after a pause, with interrupts pending`, () => stepsAfterPause(vmm), { skip });
}
process.exit(0);
