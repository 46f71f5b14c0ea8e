/** The grammars of package.json, as VS Code applies them: its tokenizer and its regular expressions. vscode-oniguruma stays
 *  at the version that VS Code has: 2.0 takes other arguments than vscode-textmate gives. */
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import oniguruma, { type OnigString } from 'vscode-oniguruma';
import textmate, { type IGrammar, type IOnigLib, type IRawGrammar, type StateStack } from 'vscode-textmate';

export const repository = new URL('../../', import.meta.url);

interface Manifest {
  contributes: {
    languages: { id: string; configuration: string }[];
    grammars: { language?: string; scopeName: string; path: string }[];
  };
}

export const { languages, grammars } = (
  JSON.parse(readFileSync(new URL('package.json', repository), 'utf8')) as Manifest
).contributes;

export function readGrammar(scopeName: string): IRawGrammar | null {
  const path = grammars.find((grammar) => grammar.scopeName === scopeName)?.path;
  return path === undefined ? null : textmate.parseRawGrammar(readFileSync(new URL(path, repository), 'utf8'), path);
}

/** How often a regular expression was looked for, by all that was tokenized. */
export const searches = { count: 0 };

async function load(): Promise<IOnigLib> {
  const wasm = createRequire(import.meta.url).resolve('vscode-oniguruma/release/onig.wasm');
  await oniguruma.loadWASM(new Uint8Array(readFileSync(wasm)).buffer);
  return {
    createOnigString: (text) => new oniguruma.OnigString(text),
    createOnigScanner: (patterns) => {
      const scanner = new oniguruma.OnigScanner(patterns);
      return {
        findNextMatchSync: (text, position, options) => {
          searches.count++;
          return scanner.findNextMatchSync(text as string | OnigString, position, options);
        },
        dispose: () => scanner.dispose(),
      };
    },
  };
}

const onigLib = load();

/** Oniguruma refuses a pattern without an error: it is then found everywhere, empty. */
export async function compiles(pattern: string): Promise<boolean> {
  await onigLib;
  const scanner = new oniguruma.OnigScanner([pattern]);
  const found = scanner.findNextMatchSync('☃☃', 1);
  scanner.dispose();
  return found?.captureIndices[0]?.end !== 1;
}

const registry = new textmate.Registry({
  onigLib,
  loadGrammar: (scopeName) => Promise.resolve(readGrammar(scopeName)),
});

export async function grammarOf(language: string): Promise<IGrammar> {
  const scopeName = grammars.find((grammar) => grammar.language === language)?.scopeName;
  const grammar = scopeName === undefined ? null : await registry.loadGrammar(scopeName);
  if (grammar === null) throw new Error(`package.json has no grammar for ${language}`);
  return grammar;
}

export interface Token {
  /** In UTF-16 units of the line. */
  readonly start: number;
  readonly end: number;
  readonly text: string;
  /** From the outside in, without the grammar's own. */
  readonly scopes: readonly string[];
}

export interface TokenizedLine {
  readonly line: string;
  readonly tokens: readonly Token[];
}

export function tokenize(
  grammar: IGrammar,
  text: string,
  start: StateStack = textmate.INITIAL,
): { lines: TokenizedLine[]; end: StateStack } {
  let state = start;
  const lines = text.split('\n').map((line) => {
    const { tokens, ruleStack } = grammar.tokenizeLine(line, state);
    state = ruleStack;
    return {
      line,
      tokens: tokens.map(({ startIndex: from, endIndex, scopes }) => {
        // The tokenizer counts the newline that it puts behind each line.
        const to = Math.min(endIndex, line.length);
        return { start: from, end: to, text: line.slice(from, to), scopes: scopes.slice(1) };
      }),
    };
  });
  return { lines, end: state };
}
