// Arguments and locals of functions of real kernels, and where they are, as gdb says.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { FrameAccess, Location, SymbolFile, Variable } from '../../src/symbols/image.ts';
import { sizeOf } from '../../src/symbols/types.ts';
import { type Architecture, architectures, Kernel, linesOf, outputOf, registerNumber, seeded } from './kernel.ts';

const count = 300;

/** One symbol of a scope. `lines` of an expression are its operations. */
interface Place {
  readonly text: string;
  readonly operations: readonly string[];
}
interface Range extends Place {
  readonly start: bigint;
  readonly end: bigint;
}
interface Local {
  readonly name: string;
  readonly length: number;
  /** The one place it has everywhere, or those it has in ranges. */
  readonly places: readonly (Place | Range)[];
}

async function someFunctions(kernel: Kernel): Promise<readonly string[]> {
  const seen = new Map<string, number>();
  for await (const line of linesOf('readelf', ['-sW', kernel.vmlinux])) {
    const [, , size, type, , , section, name = ''] = line.trim().split(/\s+/);
    if (type !== 'FUNC' || section === 'UND' || Number(size) === 0 || !/^\w+$/.test(name)) continue;
    seen.set(name, (seen.get(name) ?? 0) + 1);
  }
  const all = [...seen].filter(([, times]) => times === 1).map(([name]) => name);
  const random = seeded(31);
  const chosen = new Set<string>();
  while (chosen.size < count) chosen.add(all[random(all.length)] ?? '');
  return [...chosen];
}

/** gdb's answers, `@NAME` before each. */
async function askGdb(kernel: Kernel): Promise<string> {
  const questions = (await someFunctions(kernel)).flatMap((name) => [`echo \\n@${name}\\n`, `info scope ${name}`]);
  const commands = ['set width 0', ...questions].flatMap((command) => ['-ex', command]);
  return outputOf('gdb-multiarch', [
    '-nx',
    '-batch',
    '-iex',
    'set debuginfod enabled off',
    ...commands,
    kernel.vmlinux,
  ]);
}

/** What is no variable, and what a scope around all functions has. */
const isOther = /^(?:a typedef|a label|a function)/;

/** `isWhole`: gdb gives up at the first expression that it does not know. */
function scopeOf(lines: readonly string[]): { readonly locals: readonly Local[]; readonly isWhole: boolean } {
  const locals: Local[] = [];
  let name = '';
  let places: { text: string; operations: string[]; start?: bigint; end?: bigint }[] = [];
  const finish = (length: number): void => {
    if (places.length > 0) locals.push({ name, length, places: places as Local['places'] });
    places = [];
  };
  for (const line of lines) {
    const [, symbol, text = ''] = /^Symbol (\S+) is (.*)$/.exec(line) ?? [];
    const [, start, end, ranged = ''] = /Range (0x[0-9a-f]+)-(0x[0-9a-f]+): (.*)$/.exec(line) ?? [];
    const [, length] = /, length (\d+)\.$/.exec(line) ?? [];
    if (symbol !== undefined) {
      name = symbol;
      places = [];
      const place = text.replace(/(?:, length \d+)?\.$/, '');
      if (!isOther.test(text) && text !== 'multi-location:') places.push({ text: place, operations: [] });
      if (text === 'optimized out.') finish(-1);
    } else if (start !== undefined && end !== undefined) {
      places.push({ text: ranged, operations: [], start: BigInt(start), end: BigInt(end) });
    } else if (/^ +(?:\d+: |\[\d+-byte piece\])/.test(line)) {
      places.at(-1)?.operations.push(line.replace(/^ +(?:\d+: )?(?:DW_OP_)?/, ''));
    }
    if (length !== undefined) finish(Number(length));
  }
  return { locals, isWhole: places.length === 0 };
}

const cfa = 0x7f00_0000_0000n;
const registerValue = (register: number): bigint => BigInt(register + 1) << 32n;
const frameAt = (pc: bigint): FrameAccess => ({
  pc,
  bias: 0n,
  register: registerValue,
  cfa: async () => cfa,
  read: async (_, length) => new Uint8Array(length).fill(0x5a),
  caller: async () => undefined,
});

const unsigned = (value: bigint): bigint => BigInt.asUintN(64, value);

/** What the operations that gdb lists come to in that frame: a value or an address. Undefined where they need more than
 *  this knows, which is enough for nine in ten. */
function evaluate(operations: readonly string[]): { readonly isValue: boolean; readonly result: bigint } | undefined {
  const stack: bigint[] = [];
  let isValue = false;
  const pop = (): bigint => stack.pop() ?? 0n;
  const binary: Readonly<Record<string, (a: bigint, b: bigint) => bigint>> = {
    plus: (a, b) => a + b,
    minus: (a, b) => a - b,
    and: (a, b) => a & b,
    or: (a, b) => a | b,
    xor: (a, b) => a ^ b,
    mul: (a, b) => a * b,
    shl: (a, b) => (b > 63n ? 0n : a << b),
    shr: (a, b) => (b > 63n ? 0n : a >> b),
    shra: (a, b) => BigInt.asIntN(64, a) >> (b > 63n ? 63n : b),
  };
  for (const operation of operations) {
    const [name = '', operand = '0'] = operation.split(' ');
    const [, register] = /^breg(\d+)$/.exec(name) ?? [];
    const compute = binary[name];
    if (/^lit\d+$/.test(name)) stack.push(BigInt(name.slice(3)));
    else if (/^const[u\du]+$|^const[s\ds]+$/.test(name)) stack.push(unsigned(BigInt(operand)));
    else if (register !== undefined) stack.push(unsigned(registerValue(Number(register)) + BigInt(operand)));
    else if (name === 'fbreg') stack.push(unsigned(cfa + BigInt(operand)));
    else if (name === 'plus_uconst') stack.push(unsigned(pop() + BigInt(operand)));
    else if (name === 'addr') stack.push(BigInt(operand));
    else if (name === 'deref') {
      pop();
      stack.push(0x5a5a_5a5a_5a5a_5a5an);
    } else if (name === 'neg') stack.push(unsigned(-pop()));
    else if (name === 'not') stack.push(unsigned(~pop()));
    else if (name === 'stack_value') isValue = true;
    else if (compute !== undefined) {
      const right = pop();
      stack.push(unsigned(compute(pop(), right)));
    } else return undefined;
  }
  return stack.length === 1 ? { isValue, result: pop() } : undefined;
}

const integer = (bytes: Uint8Array): bigint => bytes.reduceRight((all, byte) => (all << 8n) | BigInt(byte), 0n);

/** Undefined when both say the same, else what gdb says; `classes` counts how it was told. */
function difference(
  { text, operations }: Place,
  ours: Location,
  length: number,
  architecture: Architecture,
  classes: Record<string, number>,
): string | undefined {
  const counted = (name: string, isEqual: boolean): string | undefined => {
    classes[name] = (classes[name] ?? 0) + 1;
    return isEqual ? undefined : [text, ...operations].join('; ');
  };
  const bits = 8 * Math.min(length, 8);
  const isNumber = (wanted: bigint): boolean =>
    ours.kind === 'value' && BigInt.asUintN(bits, integer(ours.bytes)) === BigInt.asUintN(bits, wanted);
  const [, register] = /^a variable in \$(\w+)$/.exec(text) ?? [];
  const [, constant] = /^(?:the constant|a constant with value) (-?\d+)/.exec(text) ?? [];
  const [, address] = /static storage at address (0x[0-9a-f]+)$/.exec(text) ?? [];
  if (register !== undefined) {
    return counted('register', ours.kind === 'register' && ours.number === registerNumber(architecture, register));
  }
  // The value at the entry of the function is told by its caller, and this frame has none.
  if (operations.includes('entry_value') && ours.kind === 'none') return counted('entry value', true);
  if (/piece/.test([text, ...operations].join())) return counted('pieces', ours.kind === 'pieces');
  if (constant !== undefined) return counted('constant', isNumber(BigInt(constant)));
  if (address !== undefined) {
    return counted('static', ours.kind === 'memory' && unsigned(ours.address) === BigInt(address));
  }
  if (text === 'optimized out') return counted('optimised out', ours.kind === 'none');
  if (operations.some((operation) => /^(?:implicit|GNU_implicit)_pointer/.test(operation))) {
    return counted('implicit pointer', ours.kind === 'implicitPointer');
  }
  const found = operations.length === 0 ? undefined : evaluate(operations);
  if (found === undefined) return counted('not evaluated here', true);
  if (found.isValue) return counted('computed value', isNumber(found.result));
  return counted('computed address', ours.kind === 'memory' && unsigned(ours.address) === found.result);
}

const isRange = (place: Place | Range): place is Range => 'start' in place;

async function compare(
  image: SymbolFile,
  variable: Variable,
  local: Local,
  architecture: Architecture,
  pc: bigint,
  classes: Record<string, number>,
): Promise<readonly string[]> {
  const wrong: string[] = [];
  const at = async (address: bigint, place: Place): Promise<void> => {
    const ours = await image.locate(variable, frameAt(address));
    const theirs = difference(place, ours, local.length, architecture, classes);
    const text = JSON.stringify(ours, (_, value: unknown) => (typeof value === 'bigint' ? value.toString(16) : value));
    if (theirs !== undefined) wrong.push(`${local.name} at ${address.toString(16)}: gdb ${theirs}; ours ${text}`);
  };
  for (const place of local.places) {
    if (!isRange(place)) {
      await at(pc, place);
      continue;
    }
    // An empty range holds nowhere.
    if (place.start === place.end) continue;
    // The first range that holds decides, as for gdb.
    const isFirst = (address: bigint): boolean =>
      local.places.find((each) => isRange(each) && each.start <= address && address < each.end) === place;
    for (const address of [place.start, place.end - 1n]) if (isFirst(address)) await at(address, place);
    const isCovered = local.places.some((each) => isRange(each) && each.start <= place.end && place.end < each.end);
    if (!isCovered) await at(place.end, { text: 'optimized out', operations: [] });
  }
  return wrong;
}

describe('locals, against gdb', () => {
  for (const architecture of architectures) {
    test(`${count} functions of ${architecture}`, async (context) => {
      const kernel = await Kernel.of(architecture);
      const answers = (await kernel.answer(`gdb-scopes-${count}`, () => askGdb(kernel))).split(/^@/m).slice(1);
      assert.equal(answers.length, count);
      const image = kernel.open();
      const classes: Record<string, number> = {};
      const functions = { compared: 0, withoutScope: 0, severalPlaces: 0, locals: 0, labels: 0, cut: 0 };
      const unexplained: string[] = [];
      try {
        for (const answer of answers) {
          const [name = '', ...lines] = answer.split('\n');
          const places = image.functionBreakpoint(name);
          const [place] = places;
          // gdb answers for one of them, or for each.
          if (places.length !== 1 || place === undefined) {
            functions.severalPlaces++;
            continue;
          }
          const variables = new Map(image.variablesAt(place.address, 0).map((each) => [each.name, each]));
          // Assembly: gdb goes on to the variables of the whole unit, which has none here.
          if (image.inlinesAt(place.address).length === 0) {
            functions.withoutScope++;
            continue;
          }
          functions.compared++;
          const { locals, isWhole } = scopeOf(lines);
          if (!isWhole) functions.cut++;
          for (const local of locals) {
            const variable = variables.get(local.name);
            // A label whose code is gone, maybe of a variable's name, or a variable that another one hides.
            const isGone = local.length < 0 && local.places[0]?.text === 'optimized out';
            const isLabel = variable === undefined || locals.some((each) => each !== local && each.name === local.name);
            if (isGone && isLabel) {
              functions.labels++;
              continue;
            }
            if (variable === undefined) {
              unexplained.push(`${name}: no ${local.name}`);
              continue;
            }
            functions.locals++;
            if (local.length >= 0 && local.length !== sizeOf(variable.type)) {
              unexplained.push(`${name}: ${local.name} has ${sizeOf(variable.type)} bytes, for gdb ${local.length}`);
            }
            const wrong = await compare(image, variable, local, architecture, place.address, classes);
            unexplained.push(...wrong.map((text) => `${name}: ${text}`));
          }
          for (const own of variables.keys()) {
            if (isWhole && !locals.some((local) => local.name === own)) unexplained.push(`${name}: gdb has no ${own}`);
          }
        }
      } finally {
        image.close();
      }
      context.diagnostic(JSON.stringify({ ...functions, ...classes }));
      assert.deepEqual(unexplained, []);
      assert.ok(functions.compared > 0.8 * count && functions.locals > 500, JSON.stringify(functions));
      assert.ok((classes['not evaluated here'] ?? 0) < 0.02 * Object.values(classes).reduce((a, b) => a + b, 0));
    });
  }
});
