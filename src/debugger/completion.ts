// What can follow in an expression that somebody types.
import { declaration, type Member, stripped, type Type } from '../symbols/types.ts';
import { type EvaluationScope, evaluateExpression } from './evaluate.ts';
import { parseInput } from './expression/parser.ts';
import { assigns } from './expression/syntax.ts';

export interface Completion {
  readonly name: string;
  readonly kind: 'register' | 'argument' | 'variable' | 'member' | 'function' | 'symbol';
  /** A declared type. */
  readonly detail?: string;
}

export interface Completions {
  /** UTF-16 units before the cursor that a choice replaces. */
  readonly replaced: number;
  readonly choices: readonly Completion[];
}

export interface CompletionScope extends EvaluationScope {
  readonly registerNames: readonly string[];
  /** Visible at the place, the innermost first. */
  readonly variables: readonly { readonly name: string; readonly kind: string; readonly type: Type }[];
  readonly fileVariables: readonly { readonly name: string; readonly type: Type }[];
  /** At most `limit`, in alphabetical order. */
  symbolsBeginningWith(prefix: string, limit: number): readonly { readonly name: string; readonly kind: string }[];
}

const symbolLimit = 200;
const nothing: Completions = { replaced: 0, choices: [] };

/** Completes the end of `text`. Nothing is written and nothing called; what cannot be evaluated has no members. */
export async function complete(text: string, scope: CompletionScope): Promise<Completions> {
  const word = /[A-Za-z_]\w*$/.exec(text)?.[0] ?? '';
  const before = text.slice(0, text.length - word.length);
  if (before.endsWith('$')) {
    const choices = scope.registerNames.map((name) => ({ name: `$${name}`, kind: 'register' }) as const);
    return beginningWith(`$${word}`, choices);
  }
  const access = /(?:\.|->)\s*$/.exec(before);
  if (access) return beginningWith(word, await membersOf(before.slice(0, access.index), scope));
  // The end of a number, or of a text.
  if (word === '' || /[\w"'\\]$/.test(before)) return nothing;
  const names = new Map<string, Completion>();
  const add = (choice: Completion): void => {
    if (!names.has(choice.name)) names.set(choice.name, choice);
  };
  for (const { name, kind, type } of scope.variables) {
    add({ name, kind: kind === 'argument' ? 'argument' : 'variable', detail: declaration(type) });
  }
  for (const { name, type } of scope.fileVariables) add({ name, kind: 'variable', detail: declaration(type) });
  for (const { name, kind } of scope.symbolsBeginningWith(word, symbolLimit)) {
    add({ name, kind: kind === 'function' ? 'function' : kind === 'object' ? 'variable' : 'symbol' });
  }
  return beginningWith(word, [...names.values()]);
}

const beginningWith = (prefix: string, choices: readonly Completion[]): Completions => ({
  replaced: prefix.length,
  choices: choices.filter(({ name }) => name.startsWith(prefix)),
});

async function membersOf(text: string, scope: CompletionScope): Promise<readonly Completion[]> {
  const start = operandStart(text);
  if (start === text.length) return [];
  try {
    const { expression } = parseInput(text.slice(start), (name) => scope.isType(name));
    if (assigns(expression)) return [];
    const { value } = await evaluateExpression(expression, scope);
    return members(value.type, scope);
  } catch {
    // It is being typed: that it means nothing yet is no mistake.
    return [];
  }
}

/** Those of anonymous members are the type's own. Of a pointer, those of what it points to. */
function members(type: Type, scope: CompletionScope): readonly Completion[] {
  const real = stripped(type);
  if (real.kind === 'pointer') return members(real.target, scope);
  if (real.kind !== 'struct' && real.kind !== 'union' && real.kind !== 'class') return [];
  const named =
    real.incomplete && real.name !== undefined
      ? scope.type(real.kind === 'union' ? 'union' : 'struct', real.name)
      : undefined;
  const whole = named && stripped(named);
  const all: readonly Member[] = whole && 'members' in whole ? whole.members : real.members;
  return all.flatMap(({ name, type: own }) =>
    name === undefined ? members(own, scope) : [{ name, kind: 'member' as const, detail: declaration(own) }],
  );
}

/** Where the postfix expression (C11 6.5.2) that ends the text begins: `b->c[1]` of `a + b->c[1]`. */
export function operandStart(text: string): number {
  let at = text.length;
  for (;;) {
    const rest = text.slice(0, at);
    const space = /\s*$/.exec(rest)?.[0].length ?? 0;
    const bracket = rest[at - space - 1];
    if (bracket === ')' || bracket === ']') {
      const open = openingOf(rest, at - space - 1);
      if (open === undefined) return at;
      at = open;
      // A call or an index belongs to what stands before it; a parenthesis to nothing.
      if (/[\w)\]]\s*$/.test(text.slice(0, at))) continue;
    } else {
      const name = /\$?[A-Za-z_0-9]+(?:::[A-Za-z_0-9]+)*\s*$/.exec(rest)?.[0];
      if (name === undefined) return at;
      at -= name.length;
    }
    const access = /(?:\.|->)\s*$/.exec(text.slice(0, at));
    if (!access) return at;
    at = access.index;
  }
}

function openingOf(text: string, closing: number): number | undefined {
  let depth = 0;
  for (let at = closing; at >= 0; at--) {
    const letter = text[at];
    if (letter === ')' || letter === ']') depth++;
    if ((letter === '(' || letter === '[') && --depth === 0) return at;
  }
  return undefined;
}
