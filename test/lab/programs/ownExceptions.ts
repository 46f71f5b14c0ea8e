/** The guest's own debug exceptions and debug registers under the target, as in Linux
 *  tools/testing/selftests/kvm/arm64/debug-exceptions.c and kvm-unit-tests arm/debug.c. */
import assert from 'node:assert/strict';
import { Gva } from '../../../src/base/address.ts';
import type { StopEvent, StopPointId } from '../../../src/target/target.ts';
import { Bare, EL1H } from './bareVm.ts';
import { assertExceptions, D, type Exception, elsewhere, esr, go, image, MDSCR, place } from './exceptionsGuest.ts';
import { check } from './report.ts';
import { missing, type Vmm, vmms } from './vms.ts';

interface Numbers {
  readonly breakpoints: bigint;
  readonly watchpoints: bigint;
  readonly contexts: bigint;
}

/** ID_AA64DFR0_EL1: 31:28 CTX_CMPs, 23:20 WRPs, 15:12 BRPs, each one less. */
async function numbers(bare: Bare): Promise<Numbers> {
  const features = await bare.get('id_aa64dfr0_el1');
  const field = (low: bigint): bigint => ((features >> low) & 0xfn) + 1n;
  return { breakpoints: field(12n), watchpoints: field(20n), contexts: field(28n) };
}

type Choice = readonly [breakpoint: bigint, watchpoint: bigint, context: bigint];

/** Every breakpoint that is not context-aware with every watchpoint and every one that is. */
function choices({ breakpoints, watchpoints, contexts }: Numbers): readonly Choice[] {
  const below = (count: bigint): readonly bigint[] => Array.from({ length: Number(count) }, (_, n) => BigInt(n));
  const plain = breakpoints - contexts;
  return below(contexts).flatMap((context) =>
    below(plain).flatMap((breakpoint) =>
      below(watchpoints).map((watch) => [breakpoint, watch, plain + context] as const),
    ),
  );
}

/** What `own` takes with one choice: all, or those that a debugger with something armed leaves to the guest. */
function ownExceptions(bare: Bare, breakpoints: bigint, suppressed: boolean): readonly Exception[] {
  const monitor = MDSCR.KDE | MDSCR.MDE;
  const base = { vector: 0x200n, spsr: EL1H & ~D, far: 0n, mdscr: monitor } as const;
  const at = (name: string, offset = 0n): bigint => bare.at(place(name) + offset);
  const hit = (elr: bigint): Exception => ({ ...base, esr: esr.breakpoint, elr });
  const watched = (syndrome: bigint, name: string): Exception => ({
    ...base,
    esr: syndrome,
    elr: at(name),
    far: at('scratch'),
  });
  const step = (syndrome: bigint, offset: bigint): Exception => ({
    ...base,
    esr: syndrome,
    elr: at('ownStepped', offset),
    mdscr: MDSCR.KDE | MDSCR.SS,
  });
  // The handler of the breakpoint at the same place has masked debug exceptions, if there was one.
  const spsr = suppressed ? EL1H & ~D : EL1H;
  const masked = { ...base, spsr: EL1H, mdscr: 0n };
  const all = [
    { ...masked, esr: esr.brk(0x70n), elr: at('ownBrk') },
    hit(at('ownHit')),
    hit(at('ownSvc')),
    { ...base, esr: esr.svc(0x71n), elr: at('ownSvc', 4n), spsr },
    hit(at('ownBoth')),
    { ...base, esr: esr.brk(0x72n), elr: at('ownBoth'), spsr },
    watched(esr.watchWrite, 'ownStore'),
    watched(esr.watchRead, 'ownLoad'),
    step(esr.stepPending, 0n),
    step(esr.stepped, 4n),
    step(esr.stepped, 8n),
    { ...masked, esr: esr.brk(0x73n), elr: at('ownLockedBrk') },
    hit(at('ownLinked')),
    watched(esr.watchWrite, 'ownLinkedStore'),
    ...Array.from({ length: Number(breakpoints) }, (_, index) => hit(at('ownLine', 4n * BigInt(index)))),
  ];
  const kept = new Set([0x15n, 0x3cn]);
  return suppressed ? all.filter((exception) => kept.has(exception.esr >> 26n)) : all;
}

async function goOwn(bare: Bare, chosen: readonly Choice[]): Promise<void> {
  await bare.store(bare.at(place('table')), ...chosen.flatMap((choice) => [...choice, 0n]));
  await go(bare, 'own', { x0: bare.at(place('table')), x1: BigInt(chosen.length) });
}

async function runTo({ target }: Bare, address: bigint): Promise<readonly StopEvent[]> {
  const id = await target.insert({ kind: 'hardware', address: Gva(address) }, 0);
  const events = await target.resume();
  await target.remove(id);
  return events;
}

async function guestsOwn(vmm: Vmm): Promise<void> {
  let bare = await Bare.launch(vmm, image);
  const counts = await numbers(bare);
  const every = choices(counts);
  const [first] = every;
  assert.ok(first, 'there is a breakpoint to be tried');
  const expected = (count: number, suppressed: boolean): readonly Exception[] =>
    Array.from({ length: count }, () => ownExceptions(bare, counts.breakpoints, suppressed)).flat();

  await goOwn(bare, every);
  const idle = [bare.at(place('idle')), bare.at(place('idle') + 4n)];
  for (let round = 0; round === 0 || !idle.includes(Gva(await bare.get('pc'))); round++) {
    assert.ok(round < 20, 'it does not end');
    bare = await bare.leave(500);
  }
  await assertExceptions(bare, expected(every.length, false), 'with nobody attached');

  const unarmed = async (what: string): Promise<void> => {
    await goOwn(bare, every);
    await bare.idles(place('idle'));
    await assertExceptions(bare, expected(every.length, false), what);
  };
  await unarmed('attached, with nothing armed');
  for (const point of Object.values(elsewhere(bare))) {
    const id = await bare.target.insert(point, 0);
    await goOwn(bare, [first]);
    await bare.idles(place('idle'));
    await assertExceptions(bare, expected(1, true), `armed: ${point.kind}`);
    await bare.target.remove(id);
  }
  bare.stopAtTraps();
  await goOwn(bare, [first]);
  await bare.idles(place('idle'));
  await assertExceptions(bare, expected(1, true), 'filter');
  bare.target.setTrapFilter(undefined);
  await unarmed('disarmed again');

  await goOwn(bare, [first]);
  for (let pc = 0n; !idle.includes(Gva(pc)); pc = await bare.get('pc')) {
    const kind = pc === bare.at(place('reset')) ? 'breakpoint' : 'step';
    // Long, and without an exception.
    const [event] = await (kind === 'breakpoint' ? runTo(bare, await bare.get('x30')) : bare.target.step(0));
    assert.equal(event?.kind, kind);
  }
  await assertExceptions(bare, expected(1, true), 'stepped');
  await unarmed('after steps');
}

/** Debug registers that the guest has set stay as they are, whatever the debugger does. */
async function registersAreKept(vmm: Vmm): Promise<void> {
  let bare = await Bare.launch(vmm, image, { traps: false });
  const { breakpoints, watchpoints } = await numbers(bare);
  // Where nothing is: enabled, but never hit.
  const nowhere = (index: number, from: bigint): bigint => from + 0x1000n * BigInt(index);
  const pairs = (from: bigint, control: bigint): readonly bigint[] =>
    Array.from({ length: 16 }, (_, index) => [nowhere(index, from), control]).flat();
  const table = [...pairs(0x7000_0000_0000n, 0x1e3n), ...pairs(0x7100_0000_0000n, 0x1ffbn), MDSCR.MDE, 0x1234n];
  const at = bare.at(place('table'));
  await bare.store(at, ...table);
  await go(bare, 'hold', { x0: at });
  const wanted = new Map<string, bigint>();
  for (const [kind, count, from] of [
    ['b', breakpoints, 0],
    ['w', watchpoints, 32],
  ] as const) {
    for (let index = 0; index < count; index++) {
      wanted.set(`dbg${kind}vr${index}_el1`, table[from + 2 * index] ?? 0n);
      wanted.set(`dbg${kind}cr${index}_el1`, table[from + 2 * index + 1] ?? 0n);
    }
  }
  const held = async (what: string): Promise<void> => {
    assert.equal(await bare.get('x26'), 0n, `${what}: ${await bare.words(bare.at(place('records')), 6)}`);
    const seen = await bare.target.readRegisters(0, ['mdscr_el1', ...wanted.keys()]);
    for (const [name, value] of wanted) assert.equal(seen.get(name), value, `${what}: ${name}`);
    assert.equal((seen.get('mdscr_el1') ?? 0n) & ~MDSCR.KDE, MDSCR.MDE, `${what}: MDSCR_EL1`);
  };
  /** Lets the guest look at all of them some times. */
  const rounds = async (what: string): Promise<void> => {
    const before = await bare.get('x19');
    for (let pause = 20; (await bare.get('x19')) < before + 3n; pause *= 2) {
      assert.ok(pause < 10_000, 'the guest does not run');
      await bare.runs(pause);
    }
    await held(what);
  };
  await rounds('nothing armed');
  for (let time = 0; time < 2; time++) {
    for (const point of Object.values(elsewhere(bare))) {
      const id = await bare.target.insert(point, 0);
      await rounds(`armed: ${point.kind}`);
      await bare.target.remove(id);
      await rounds(`disarmed: ${point.kind}`);
    }
    const ids: StopPointId[] = [];
    for (let index = 0n; index < breakpoints; index++) {
      ids.push(await bare.target.insert({ kind: 'hardware', address: bare.at(place('own') + 4n * index) }, 0));
    }
    for (let index = 0n; index < watchpoints; index++) {
      const address = bare.at(place('scratch') + 8n * index);
      ids.push(await bare.target.insert({ kind: 'watch', address, length: 8, access: 'readWrite' }, 0));
    }
    await rounds('all armed');
    const before = await bare.get('x19');
    for (let steps = 0; time === 0 && (await bare.get('x19')) < before + 2n; steps++) {
      assert.ok(steps < 2000, 'the guest does not get on');
      assert.equal((await bare.target.step(0))[0]?.kind, 'step');
    }
    await held('stepped');
    for (const id of ids) await bare.target.remove(id);
    bare = await bare.leave(100);
    await held('left and attached again');
    await rounds('attached again');
  }
}

/** System registers that the guest writes with something armed read back. */
async function writesWhileArmed(vmm: Vmm): Promise<void> {
  const bare = await Bare.launch(vmm, image);
  const { target } = bare;
  for (const armed of Object.values(elsewhere(bare))) {
    const id = await target.insert(armed, 0);
    await go(bare, 'written', { x0: 1000n });
    await bare.until(0xf15);
    assert.equal(await bare.get('x26'), 0n, `armed: ${armed.kind}`);
    await assertExceptions(bare, [], `armed: ${armed.kind}`);
    await target.remove(id);
  }
}

for (const vmm of vmms) {
  const skip = missing(vmm);
  await check(`${vmm}: the guest’s own debug exceptions`, () => guestsOwn(vmm), { skip });
  await check(`${vmm}: the guest’s debug registers are kept`, () => registersAreKept(vmm), { skip });
  await check(`${vmm}: writes to debug registers while something is armed`, () => writesWhileArmed(vmm), { skip });
}
process.exit(0);
