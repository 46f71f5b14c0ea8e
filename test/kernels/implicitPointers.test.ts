// Pointers that gcc optimised away in a real kernel (DW_OP_implicit_pointer), followed in frames of a made-up core file:
// what they point to, against gdb.
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { test } from 'node:test';
import { Gva } from '../../src/base/address.ts';
import { MemoryFault, UserError } from '../../src/base/errors.ts';
import { evaluate } from '../../src/debugger/evaluate.ts';
import { FrameScope } from '../../src/debugger/scope.ts';
import { SerialTarget } from '../../src/debugger/serialTarget.ts';
import { StopContext } from '../../src/debugger/stopContext.ts';
import { KernelSymbols } from '../../src/debugger/symbols.ts';
import { formatValue, unreadable } from '../../src/symbols/format.ts';
import type { SymbolFile } from '../../src/symbols/image.ts';
import { stripped } from '../../src/symbols/types.ts';
import { implicitPointerOf } from '../../src/symbols/value.ts';
import { temporaryFile } from '../support/elfBuilder.ts';
import { type CoreThread, coreFile } from '../support/elfCore.ts';
import { FakeTarget } from '../support/fakeTarget.ts';
import { Kernel, linesOf, outputOf, seeded } from './kernel.ts';

const places = 1500;
const stack = 0xffff_8000_f000_0000n;
const memory = Uint8Array.from({ length: 1 << 16 }, (_, n) => (n * 7) & 0xff);

/** Addresses at which a location list has such a pointer. */
async function addresses(kernel: Kernel): Promise<bigint[]> {
  const text = await kernel.answer(`implicit-pointers-${places}`, async () => {
    const found = new Set<string>();
    for await (const line of linesOf('readelf', ['--debug-dump=loc', kernel.vmlinux])) {
      const [, start, end] = /^ +([0-9a-f]{16}) ([0-9a-f]{16}) \(DW_OP_implicit_pointer: /.exec(line) ?? [];
      if (start !== undefined && start !== end) found.add(start);
    }
    const all = [...found];
    const random = seeded(1);
    const some = new Set<string>();
    while (some.size < places) some.add(all[random(all.length)] ?? '');
    return [...some].join('\n');
  });
  return text.split('\n').map((address) => BigInt(`0x${address}`));
}

/** Registers that are all different. */
const threadAt = (pc: bigint, index: number): CoreThread => ({
  x: Array.from({ length: 31 }, (_, n) =>
    n === 29 ? stack + 0xf000n : n === 30 ? 0n : BigInt(0x1000 * (n + 1) + index),
  ),
  sp: stack + 0xe000n,
  pc,
});

/** A stop of vCPUs with the registers of these threads, the stack, and the read-only data of the image. */
function stopOf(threads: readonly CoreThread[], image: SymbolFile): StopContext {
  const target = new FakeTarget(threads.length);
  threads.forEach(({ x, sp, pc }, vcpu) => {
    for (const [n, value] of x.entries()) target.set(vcpu, `x${n}`, value);
    target.set(vcpu, 'sp', sp);
    target.set(vcpu, 'pc', pc);
  });
  target.memory = () => ({
    read: async (address, length) => {
      const offset = Number(address - stack);
      if (offset >= 0 && offset + length <= memory.length) return memory.slice(offset, offset + length);
      const bytes = image.imageBytes(address, length);
      if (bytes === undefined) throw new MemoryFault('virtual', Gva(address), 'neither in the core nor in the image');
      return bytes;
    },
    write: async () => assert.fail('nothing is written'),
  });
  return new StopContext(new SerialTarget(target), new KernelSymbols(image), [], 0);
}

interface Question {
  readonly thread: number;
  readonly frame: number;
  readonly expression: string;
  readonly answer: string;
}

/** Every such pointer that is visible at the addresses, followed. */
async function followed(threads: readonly CoreThread[], image: SymbolFile): Promise<Question[]> {
  const context = stopOf(threads, image);
  const questions: Question[] = [];
  const asked = new Set<string>();
  for (const [thread, { pc }] of threads.entries()) {
    for (const [inline, { name }] of image.inlinesAt(pc).entries()) {
      const scope = await FrameScope.of(context, { vcpu: thread, frame: 0, inline });
      for (const variable of scope.variables) {
        const value = await scope.valueOf(variable);
        const type = stripped(variable.type);
        if (implicitPointerOf(value) === undefined || type.kind !== 'pointer') continue;
        if (['void', 'function'].includes(stripped(type.target).kind)) continue;
        const expression = `*${variable.name}`;
        if (asked.has(`${name} ${expression}`)) continue;
        asked.add(`${name} ${expression}`);
        const answer = await evaluate(expression, scope)
          .then((result) =>
            formatValue(result.value, scope.access, {
              depth: 64,
              limit: 200,
              describe: (address) => scope.describe(address),
            }),
          )
          .catch((error: unknown) =>
            error instanceof UserError || error instanceof MemoryFault ? unreadable(error) : Promise.reject(error),
          );
        questions.push({ thread: thread + 1, frame: inline, expression, answer });
      }
    }
  }
  return questions;
}

/** gdb's answers, in the order of the questions; empty where it gives none. */
async function gdb(kernel: Kernel, questions: readonly Question[], core: string): Promise<string[]> {
  const commands = questions.flatMap(({ thread, frame, expression }, index) => [
    `thread ${thread}`,
    `frame ${frame}`,
    `echo \\n#${index}\\n`,
    `print ${expression}`,
    'echo \\n#\\n',
  ]);
  const settings = ['set pagination off', 'set width 0', 'set print symbol on', `core-file ${core}`];
  const words = [...settings, ...commands].flatMap((command) => ['-ex', command]);
  const text = await outputOf('gdb-multiarch', ['-nx', '-batch', kernel.vmlinux, ...words]);
  const answers = new Map<number, string>();
  for (const [, index, answer] of text.matchAll(/^#(\d+)\n([\s\S]*?)\n#$/gm)) {
    answers.set(Number(index), /^\$\d+ = (.*)$/m.exec(answer ?? '')?.[1] ?? '');
  }
  return questions.map((_, index) => answers.get(index) ?? '');
}

const gone = '<optimized out>';

/** What both say alike. gdb has the type in front of a pointer, and a character behind bit fields of character types; it
 *  never says why there is no value, and shows what is left of a character array. */
const common = (text: string): string =>
  text
    .replace(/^\([^()]*\*\) (?=0x)/, '')
    .replaceAll(/<(?:optimised out|its value on entry to the function is not known)>/g, gone)
    .replaceAll(/\{[^{}=]*<optimized out> <repeats \d+ times>\}/g, gone)
    .replaceAll(/<error: Cannot access memory at address (0x[0-9a-f]+)>/g, '<cannot access memory at $1>')
    .replaceAll(/ '(?:\\?.|\\[0-7]{3})'/g, '');

/** A struct of which nothing is left is `<optimized out>` for gdb; here each member says so. */
const isGone = (text: string): boolean => {
  const values = common(text).replaceAll(/[\w.]+ = |[{}, ]|<repeats \d+ times>/g, '');
  return values !== '' && values.replaceAll(/<optimizedout>/g, '') === '';
};

test('pointers that were optimised away lead where gdb says', async (context) => {
  const kernel = await Kernel.of('arm64');
  const threads = (await addresses(kernel)).map(threadAt);
  const image = kernel.open();
  try {
    const questions = await followed(threads, image);
    const core = temporaryFile(context, coreFile(threads, memory, stack));
    const key = createHash('sha256').update(JSON.stringify(questions.map(({ answer: _, ...question }) => question)));
    const theirs = await kernel.answer(`gdb-implicit-pointers-${key.digest('hex').slice(0, 16)}`, async () =>
      (await gdb(kernel, questions, core)).join('\n'),
    );
    let shown = 0;
    for (const [index, gdbAnswer] of theirs.split('\n').entries()) {
      const { thread, frame, expression, answer } = questions[index] ?? assert.fail('more answers than questions');
      const where = `${threads[thread - 1]?.pc.toString(16)}, frame ${frame}: ${expression}`;
      // An error: gdb evaluates the rest of the location, and reads memory that is not there.
      if (gdbAnswer === '') assert.match(answer, /^<(cannot access memory|optimised out)/, where);
      else assert.equal(isGone(answer) ? gone : common(answer), common(gdbAnswer), where);
      if (!answer.includes('<')) shown++;
    }
    assert.ok(questions.length > 300 && shown > 150, `${shown} of ${questions.length} have a value`);
  } finally {
    image.close();
  }
});
