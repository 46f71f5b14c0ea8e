// The samples' tokens, compared with the snapshots beside them. UPDATE_GOLDEN=1 writes them anew: read the difference
// before it is committed. What of them matters most is said below once more, for people.
import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { describe, it } from 'node:test';
import { Capstone, Const, loadCapstone } from 'capstone-wasm';
import type { IRawGrammar } from 'vscode-textmate';
import {
  compiles,
  grammarOf,
  grammars,
  languages,
  readGrammar,
  repository,
  searches,
  type Token,
  tokenize,
} from './tokenizer.ts';

const languageOfSample: Readonly<Record<string, string>> = {
  'entry.aarch64.S': 'gas-aarch64',
  'entry.x86.S': 'gas-x86',
  'oops.arm64.log': 'kernel-log',
  'formats.x86.log': 'kernel-log',
};
const beside = (name: string): URL => new URL(name, import.meta.url);

/** The words of a line that have a scope, each with its innermost one. */
async function words(language: string, line: string): Promise<[text: string, scope: string][]> {
  const [first] = tokenize(await grammarOf(language), line).lines;
  return (first?.tokens ?? []).flatMap(({ text, scopes }) => {
    const scope = scopes.at(-1);
    return scope === undefined ? [] : [[text, scope] as [string, string]];
  });
}

const shown = ({ start, end, scopes, text }: Token): string =>
  `  ${start}-${end} ${JSON.stringify(text)} ${scopes.join(' ')}\n`;

describe('snapshots of tokens', () => {
  for (const [sample, language] of Object.entries(languageOfSample)) {
    it(sample, async () => {
      const { lines, end } = tokenize(await grammarOf(language), readFileSync(beside(sample), 'utf8').trimEnd());
      const text = lines
        .map(
          ({ line, tokens }) =>
            `>${line}\n${tokens
              .filter(({ scopes }) => scopes.length > 0)
              .map(shown)
              .join('')}`,
        )
        .join('');
      const snapshot = beside(`${sample}.tokens`);
      if (process.env.UPDATE_GOLDEN === '1') writeFileSync(snapshot, text);
      assert.ok(existsSync(snapshot), `${snapshot.pathname} is missing; UPDATE_GOLDEN=1 writes it`);
      assert.equal(text, readFileSync(snapshot, 'utf8'));
      assert.equal(end.depth, 1, 'something is still open at the end');
    });
  }

  it('belong to a sample each, and every sample is tokenized', () => {
    const files = readdirSync(beside('.')).filter((file) => !file.endsWith('.ts'));
    const expected = Object.keys(languageOfSample).flatMap((sample) => [sample, `${sample}.tokens`]);
    assert.deepEqual(files.sort(), expected.sort());
  });
});

describe('AArch64 assembly', () => {
  it('tells mnemonics, registers, system registers and immediates', async () => {
    assert.deepEqual(await words('gas-aarch64', '\tmsr\tdaifset, #2'), [
      ['msr', 'keyword.mnemonic.system.aarch64'],
      ['daifset', 'variable.language.register.system.aarch64'],
      ['#2', 'constant.numeric.immediate.aarch64'],
    ]);
    assert.deepEqual(await words('gas-aarch64', '1:\tb.ne\t1b // again'), [
      ['1', 'entity.name.label.local.gas'],
      [':', 'punctuation.separator.label.gas'],
      ['b.ne', 'keyword.control.branch.aarch64'],
      ['1b', 'entity.name.label.reference.gas'],
      ['// again', 'comment.line.double-slash.gas'],
    ]);
    assert.deepEqual(await words('gas-aarch64', '\tadd\tx0, x0, :lo12:init_task'), [
      ['add', 'keyword.mnemonic.aarch64'],
      ['x0', 'variable.other.register.general.aarch64'],
      ['x0', 'variable.other.register.general.aarch64'],
      [':lo12:', 'keyword.other.relocation.aarch64'],
    ]);
  });

  it('takes conditions and options for such only where one can be', async () => {
    assert.deepEqual((await words('gas-aarch64', '\tcsel\tx0, x1, x2, eq')).at(-1), [
      'eq',
      'constant.language.condition.aarch64',
    ]);
    assert.deepEqual((await words('gas-aarch64', '\tdsb\tish')).at(-1), ['ish', 'constant.language.option.aarch64']);
    assert.deepEqual(await words('gas-aarch64', '\tadd eq, ish, hi'), [['add', 'keyword.mnemonic.aarch64']]);
  });

  it("reads the debugger's listings of code", async () => {
    assert.deepEqual(await words('gas-aarch64', '0xffff800008baf4f8 <cpu_do_idle+0x8>:  dsb sy'), [
      ['0xffff800008baf4f8', 'comment.other.address.gas'],
      ['cpu_do_idle+0x8', 'entity.name.function.label.gas'],
      [':', 'punctuation.separator.label.gas'],
      ['dsb', 'keyword.mnemonic.barrier.aarch64'],
      ['sy', 'constant.language.option.aarch64'],
    ]);
  });

  it('names the function that a macro of the kernel defines', async () => {
    assert.deepEqual(await words('gas-aarch64', 'SYM_FUNC_START(memcpy)'), [
      ['SYM_FUNC_START', 'support.function.macro.kernel.gas'],
      ['memcpy', 'entity.name.function.gas'],
    ]);
  });

  it('has # at the beginning of a line for a comment or the preprocessor', async () => {
    assert.deepEqual(await words('gas-aarch64', '# a remark'), [['# a remark', 'comment.line.number-sign.gas']]);
    assert.deepEqual(await words('gas-aarch64', '#include <asm/asm.h>'), [
      ['#include', 'keyword.control.directive.include.gas'],
      ['<asm/asm.h>', 'string.quoted.other.lt-gt.include.gas'],
    ]);
  });
});

describe('x86 assembly', () => {
  it('tells the sigils of AT&T syntax, relocations and comments', async () => {
    assert.deepEqual(await words('gas-x86', '\tmovq $-1, flag@GOTPCREL(%rip) # why'), [
      ['movq', 'keyword.mnemonic.x86'],
      ['$-1', 'constant.numeric.immediate.x86'],
      ['@GOTPCREL', 'keyword.other.relocation.x86'],
      ['%rip', 'variable.other.register.general.x86'],
      ['# why', 'comment.line.number-sign.gas'],
    ]);
    assert.deepEqual(await words('gas-x86', '\trep; movsb; call *%rax'), [
      ['rep', 'keyword.mnemonic.prefix.x86'],
      [';', 'punctuation.terminator.statement.gas'],
      ['movsb', 'keyword.mnemonic.x86'],
      [';', 'punctuation.terminator.statement.gas'],
      ['call', 'keyword.control.branch.x86'],
      ['*', 'keyword.operator.gas'],
      ['%rax', 'variable.other.register.general.x86'],
    ]);
  });
});

describe('kernel log', () => {
  it('tells time, caller, level, faults and places in code', async () => {
    const line = '<1>[    1.000000][   T42] BUG: KASAN: use-after-free in ext4_read+0x1c/0x40 [ext4]';
    assert.deepEqual(await words('kernel-log', line), [
      ['<1>', 'token.error-token'],
      ['[    1.000000]', 'comment.timestamp.kernel-log'],
      ['[   T42]', 'variable.other.caller.kernel-log'],
      ['BUG:', 'token.error-token'],
      ['KASAN: use-after-free', 'token.error-token'],
      ['ext4_read', 'entity.name.function.kernel-log'],
      ['+', 'keyword.operator.offset.kernel-log'],
      ['0x1c', 'constant.numeric.hex.offset.kernel-log'],
      ['/', 'punctuation.separator.size.kernel-log'],
      ['0x40', 'constant.numeric.hex.size.kernel-log'],
      ['ext4', 'entity.name.type.module.kernel-log'],
    ]);
  });
});

describe('mnemonics', () => {
  // Names of Capstone's own, which no assembler takes.
  const notAssembly = (name: string): boolean => name.includes('_');

  for (const [language, architecture, mode] of [
    ['gas-aarch64', Const.CS_ARCH_ARM64, Const.CS_MODE_ARM],
    ['gas-x86', Const.CS_ARCH_X86, Const.CS_MODE_64],
  ] as const) {
    it(`${language}: all that Capstone disassembles to`, async () => {
      await loadCapstone();
      const capstone = new Capstone(architecture, mode);
      const names: string[] = [];
      for (let id = 1, name = capstone.getInsnName(id); name; name = capstone.getInsnName(++id)) names.push(name);
      assert.ok(names.length > 900, `${names.length} names`);
      const grammar = await grammarOf(language);
      const isMnemonic = (name: string): boolean =>
        tokenize(grammar, `\t${name}\t`).lines[0]?.tokens.some(
          ({ text, scopes }) => text === name && /^keyword\.(mnemonic|control)\./.test(scopes[0] ?? ''),
        ) ?? false;
      assert.deepEqual(
        names.filter((name) => !notAssembly(name) && !isMnemonic(name)),
        [],
      );
    });
  }
});

describe('the work of tokenizing', () => {
  const work = async (language: string, text: string): Promise<{ tokens: number; searches: number; open: number }> => {
    const grammar = await grammarOf(language);
    const before = searches.count;
    const { lines, end } = tokenize(grammar, text);
    const tokens = lines.reduce((sum, line) => sum + line.tokens.length, 0);
    return { tokens, searches: searches.count - before, open: end.depth - 1 };
  };

  for (const [sample, language] of Object.entries(languageOfSample)) {
    it(`grows with the file: 1 MB of ${sample}`, async () => {
      const text = readFileSync(beside(sample), 'utf8').trimEnd();
      const copies = Math.ceil(1_000_000 / text.length);
      const one = await work(language, text);
      const all = await work(language, Array(copies).fill(text).join('\n'));
      assert.deepEqual(all, { tokens: copies * one.tokens, searches: copies * one.searches, open: 0 });
    });
  }

  // VS Code tokenizes lines of up to 20,000 characters (editor.maxTokenizationLineLength). A regular expression that
  // backtracks over such a line without bounds takes longer than the suite may.
  for (const { id } of languages) {
    it(`grows with the line: ${id}`, async () => {
      for (const unit of [
        'a',
        '.L',
        '\\a',
        '\\()',
        'a:',
        '(',
        '"',
        "'",
        'a=',
        '0x',
        '[ ',
        'a/',
        'a+',
        'BUG: ',
        'A(b, ',
      ]) {
        const half = await work(id, `\tadd\t${unit.repeat(5_000 / unit.length)}`);
        const whole = await work(id, `\tadd\t${unit.repeat(10_000 / unit.length)}`);
        assert.ok(whole.searches <= 2 * half.searches, `${unit}: ${half.searches}, ${whole.searches}`);
      }
    });
  }
});

describe('syntaxes/', () => {
  it('holds what package.json names, and nothing else', () => {
    const named = [...grammars.map(({ path }) => path), ...languages.map(({ configuration }) => configuration)];
    const files = readdirSync(new URL('syntaxes', repository)).map((file) => `./syntaxes/${file}`);
    assert.deepEqual(files.sort(), named.sort());
  });

  it('has only rules that are used, and regular expressions that compile', async () => {
    const loaded = new Map(grammars.map(({ scopeName }) => [scopeName, readGrammar(scopeName)] as const));
    const included = new Set<string>();
    for (const [scopeName, grammar] of loaded) {
      for (const [key, value] of strings(grammar)) {
        if (key === 'include' && value !== '$base') {
          const [other, rule] = value.split('#');
          const target = loaded.get(other || scopeName)?.repository;
          assert.ok(rule !== undefined && target?.[rule], `${scopeName} includes ${value}`);
          included.add(`${other || scopeName}#${rule}`);
        }
        if (['match', 'begin', 'end'].includes(key)) assert.ok(await compiles(value), `${scopeName}: ${value}`);
      }
    }
    const rules = [...loaded].flatMap(([scopeName, grammar]) =>
      Object.keys(grammar?.repository ?? {}).map((rule) => `${scopeName}#${rule}`),
    );
    assert.deepEqual(
      rules.filter((rule) => !included.has(rule)),
      [],
    );
  });

  it('has words as a double click should select them', () => {
    const wordsOf = (id: string, text: string): string[] => {
      const path = languages.find((language) => language.id === id)?.configuration ?? '';
      const { wordPattern } = JSON.parse(readFileSync(new URL(path, repository), 'utf8')) as { wordPattern: string };
      return text.match(new RegExp(wordPattern, 'g')) ?? [];
    };
    assert.deepEqual(wordsOf('gas-aarch64', '.Lloop: b.ne v0.16b, x0, #0x1f, \\reg'), [
      '.Lloop',
      'b.ne',
      'v0.16b',
      'x0',
      '0x1f',
      'reg',
    ]);
    assert.deepEqual(wordsOf('gas-x86', 'movq $foo, -8(%rax); jmp .Lend'), [
      'movq',
      'foo',
      '8',
      '%rax',
      'jmp',
      '.Lend',
    ]);
    assert.deepEqual(wordsOf('kernel-log', 'pc : vfs_read+0xc8/0x2c0'), ['pc', 'vfs_read', '0xc8', '0x2c0']);
  });
});

/** All strings in a grammar, with the names of their members. */
function* strings(value: IRawGrammar | null | object): Generator<[key: string, value: string]> {
  for (const [key, member] of Object.entries(value ?? {})) {
    if (typeof member === 'string') yield [key, member];
    else if (typeof member === 'object' && member !== null) yield* strings(member);
  }
}
