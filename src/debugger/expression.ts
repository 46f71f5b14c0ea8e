import { UserError } from '../base/errors.ts';

/** An integer of the target, or a pointer chain to one (`pointers` stars). `bytes` and `signed` describe the integer. */
export interface IntegerType {
  readonly name: string;
  readonly bytes: number;
  readonly signed: boolean;
  readonly pointers: number;
}

export type UnaryOperator = '-' | '+' | '~' | '!' | '*' | '&';
export type BinaryOperator =
  | '*'
  | '/'
  | '%'
  | '+'
  | '-'
  | '<<'
  | '>>'
  | '<'
  | '<='
  | '>'
  | '>='
  | '=='
  | '!='
  | '&'
  | '^'
  | '|'
  | '&&'
  | '||';

export type Expression =
  | { readonly kind: 'number'; readonly value: bigint; readonly type: IntegerType }
  | { readonly kind: 'register'; readonly name: string }
  | { readonly kind: 'symbol'; readonly name: string }
  | { readonly kind: 'unary'; readonly operator: UnaryOperator; readonly operand: Expression }
  | {
      readonly kind: 'binary';
      readonly operator: BinaryOperator;
      readonly left: Expression;
      readonly right: Expression;
    }
  | { readonly kind: 'conditional'; readonly test: Expression; readonly yes: Expression; readonly no: Expression }
  | { readonly kind: 'cast'; readonly type: IntegerType; readonly operand: Expression }
  | { readonly kind: 'sizeof'; readonly type: IntegerType }
  | { readonly kind: 'index'; readonly base: Expression; readonly index: Expression }
  | { readonly kind: 'assign'; readonly target: Expression; readonly value: Expression };

const integer = (name: string, bytes: number, signed: boolean): IntegerType => ({ name, bytes, signed, pointers: 0 });

export const unsignedLong = integer('unsigned long', 8, false);
export const signedInt = integer('int', 4, true);
export const signedLong = integer('long', 8, true);

// Both supported ABIs are LP64 (AAPCS64 10.1.2; System V psABI figure 3.1). Plain char is unsigned in the arm64 kernel
// since v6.2 (-funsigned-char) and in the AAPCS64.
const namedTypes: readonly (readonly [names: string, bytes: number, signed: boolean])[] = [
  ['u8 __u8 uint8_t uchar', 1, false],
  ['u16 __u16 uint16_t ushort', 2, false],
  ['u32 __u32 uint32_t uint', 4, false],
  ['u64 __u64 uint64_t ulong size_t uintptr_t phys_addr_t dma_addr_t', 8, false],
  ['s8 __s8 int8_t', 1, true],
  ['s16 __s16 int16_t', 2, true],
  ['s32 __s32 int32_t pid_t', 4, true],
  ['s64 __s64 int64_t ssize_t intptr_t ptrdiff_t loff_t', 8, true],
  ['bool _Bool', 1, false],
  ['void', 1, false],
];
const types = new Map(
  namedTypes.flatMap(([names, bytes, signed]) =>
    names.split(' ').map((name) => [name, integer(name, bytes, signed)] as const),
  ),
);
const typeWords = new Set(['char', 'short', 'int', 'long', 'unsigned', 'signed', 'const', 'volatile']);

const precedence: readonly (readonly BinaryOperator[])[] = [
  ['||'],
  ['&&'],
  ['|'],
  ['^'],
  ['&'],
  ['==', '!='],
  ['<', '<=', '>', '>='],
  ['<<', '>>'],
  ['+', '-'],
  ['*', '/', '%'],
];

interface Token {
  readonly kind: 'number' | 'name' | 'register' | 'character' | 'operator' | 'end';
  readonly text: string;
  readonly offset: number;
}

const tokenPattern =
  /\s+|(0[xX][0-9a-fA-F]+|0[bB][01]+|[0-9]+)([uUlL]*)(?![\w.])|([A-Za-z_][\w.$]*)|\$([A-Za-z_]\w*)|'(\\.|[^'\\])'|(<<|>>|<=|>=|==|!=|&&|\|\||[-+*/%~!&|^<>=()[\]?:])/y;

function tokenize(text: string): Token[] {
  const tokens: Token[] = [];
  for (let offset = 0; offset < text.length; ) {
    tokenPattern.lastIndex = offset;
    const match = tokenPattern.exec(text);
    if (!match) throw syntaxError(text, offset, `\`${text[offset]}\` is not understood`);
    const [whole, number, suffix, name, register, character, operator] = match;
    if (number !== undefined) tokens.push({ kind: 'number', text: number + (suffix ?? ''), offset });
    else if (name !== undefined) tokens.push({ kind: 'name', text: name, offset });
    else if (register !== undefined) tokens.push({ kind: 'register', text: register, offset });
    else if (character !== undefined) tokens.push({ kind: 'character', text: character, offset });
    else if (operator !== undefined) tokens.push({ kind: 'operator', text: operator, offset });
    offset += whole.length;
  }
  tokens.push({ kind: 'end', text: '', offset: text.length });
  return tokens;
}

const syntaxError = (text: string, offset: number, what: string): UserError =>
  new UserError(`Cannot parse \`${text}\`: ${what} at column ${offset + 1}.`);

// A hostile or mistyped expression must not exhaust the stack.
const lengthLimit = 4096;
const depthLimit = 200;

/** Parses a C expression over integers, registers and symbols. UserError with the column when it is none. */
export function parseExpression(text: string): Expression {
  if (text.length > lengthLimit) throw new UserError(`The expression is longer than ${lengthLimit} characters.`);
  return new Parser(text).parse();
}

class Parser {
  readonly #tokens: readonly Token[];
  #position = 0;
  #depth = 0;

  constructor(private readonly text: string) {
    this.#tokens = tokenize(text);
  }

  parse(): Expression {
    const expression = this.#assignment();
    if (this.#token().kind !== 'end') throw this.#unexpected();
    return expression;
  }

  #assignment(): Expression {
    this.#depth += 1;
    if (this.#depth > depthLimit) throw new UserError('The expression is nested too deeply.');
    const target = this.#conditional();
    const result: Expression = this.#take('=') ? { kind: 'assign', target, value: this.#assignment() } : target;
    this.#depth -= 1;
    return result;
  }

  #conditional(): Expression {
    const test = this.#binary(0);
    if (!this.#take('?')) return test;
    const yes = this.#assignment();
    this.#expect(':');
    return { kind: 'conditional', test, yes, no: this.#assignment() };
  }

  #binary(level: number): Expression {
    const operators = precedence[level];
    if (!operators) return this.#unary();
    let left = this.#binary(level + 1);
    for (;;) {
      const operator = operators.find((candidate) => this.#take(candidate));
      if (!operator) return left;
      left = { kind: 'binary', operator, left, right: this.#binary(level + 1) };
    }
  }

  #unary(): Expression {
    this.#depth += 1;
    if (this.#depth > depthLimit) throw new UserError('The expression is nested too deeply.');
    const result = this.#prefixed();
    this.#depth -= 1;
    return result;
  }

  #prefixed(): Expression {
    for (const operator of ['-', '+', '~', '!', '*', '&'] as const) {
      if (this.#take(operator)) return { kind: 'unary', operator, operand: this.#unary() };
    }
    // `&&name` is two address operators only by mistake; the tokenizer made it one logical operator.
    if (this.#token().kind === 'name' && this.#token().text === 'sizeof') {
      this.#position += 1;
      this.#expect('(');
      const type = this.#type();
      if (!type) throw this.#unexpected('a type');
      this.#expect(')');
      return { kind: 'sizeof', type };
    }
    const start = this.#position;
    if (this.#take('(')) {
      const type = this.#type();
      if (type && this.#take(')')) return { kind: 'cast', type, operand: this.#unary() };
      if (type) throw this.#unexpected('`)` after the type');
      this.#position = start;
    }
    return this.#postfix();
  }

  #postfix(): Expression {
    let base = this.#primary();
    while (this.#take('[')) {
      base = { kind: 'index', base, index: this.#assignment() };
      this.#expect(']');
    }
    return base;
  }

  #primary(): Expression {
    const token = this.#token();
    if (this.#take('(')) {
      const inner = this.#assignment();
      this.#expect(')');
      return inner;
    }
    this.#position += 1;
    switch (token.kind) {
      case 'number':
        return this.#number(token);
      case 'character':
        return { kind: 'number', value: characterValue(token.text), type: signedInt };
      case 'register':
        return { kind: 'register', name: token.text.toLowerCase() };
      case 'name':
        return { kind: 'symbol', name: token.text };
      default:
        this.#position -= 1;
        throw this.#unexpected();
    }
  }

  // C11 6.4.4.1: the first type that holds the value; hexadecimal ones may be unsigned without a suffix.
  #number(token: Token): Expression {
    const digits = token.text.replace(/[uUlL]+$/, '');
    const suffix = token.text.slice(digits.length).toLowerCase();
    if (!/^(?:u?l{0,2}|l{1,2}u)$/.test(suffix))
      throw syntaxError(this.text, token.offset, `\`${token.text}\` is no number`);
    const octal = /^0[0-9]+$/.test(digits);
    if (octal && /[89]/.test(digits)) throw syntaxError(this.text, token.offset, `\`${digits}\` is no octal number`);
    const value = BigInt(octal ? `0o${digits.slice(1)}` : digits);
    if (value >= 1n << 64n) throw syntaxError(this.text, token.offset, `${digits} is wider than 64 bits`);
    const wide = suffix.includes('l') || value >= 1n << 32n || (value >= 1n << 31n && !/^0[xXbB]/.test(digits));
    const unsigned = suffix.includes('u') || (wide ? value >= 1n << 63n : value >= 1n << 31n);
    return { kind: 'number', value, type: numberType(wide, unsigned) };
  }

  #type(): IntegerType | undefined {
    const start = this.#position;
    const words: string[] = [];
    let named: IntegerType | undefined;
    for (;;) {
      const { kind, text } = this.#token();
      if (kind !== 'name') break;
      if (typeWords.has(text)) words.push(text);
      else if (!named && types.has(text)) named = types.get(text);
      else break;
      this.#position += 1;
    }
    const type = named ?? builtinType(words.filter((word) => word !== 'const' && word !== 'volatile'));
    if (!type) {
      this.#position = start;
      return undefined;
    }
    let pointers = 0;
    for (;;) {
      const { kind, text } = this.#token();
      if (this.#take('*')) pointers += 1;
      else if (kind === 'name' && (text === 'const' || text === 'volatile')) this.#position += 1;
      else break;
    }
    return { ...type, pointers };
  }

  #token(): Token {
    return this.#tokens[this.#position] ?? { kind: 'end', text: '', offset: this.text.length };
  }

  #take(operator: string): boolean {
    const token = this.#token();
    if (token.kind !== 'operator' || token.text !== operator) return false;
    this.#position += 1;
    return true;
  }

  #expect(operator: string): void {
    if (!this.#take(operator)) throw this.#unexpected(`\`${operator}\``);
  }

  #unexpected(wanted = 'a value or an operator'): UserError {
    const { kind, text, offset } = this.#token();
    const found = kind === 'end' ? 'the expression ends where' : `\`${text}\` stands where`;
    return syntaxError(this.text, offset, `${found} ${wanted} is expected`);
  }
}

function numberType(wide: boolean, unsigned: boolean): IntegerType {
  if (wide) return unsigned ? unsignedLong : signedLong;
  return unsigned ? integer('unsigned int', 4, false) : signedInt;
}

function builtinType(words: readonly string[]): IntegerType | undefined {
  if (words.length === 0) return undefined;
  const count = (word: string): number => words.filter((other) => other === word).length;
  const signed = count('unsigned') === 0;
  const prefix = signed ? '' : 'unsigned ';
  if (count('char') > 0) {
    if (count('signed') > 0) return integer('signed char', 1, true);
    return integer(`${prefix}char`, 1, false);
  }
  if (count('short') > 0) return integer(`${prefix}short`, 2, signed);
  if (count('long') > 0) return integer(`${prefix}long`, 8, signed);
  return integer(`${prefix}int`, 4, signed);
}

const escapes: Readonly<Record<string, number>> = { n: 10, t: 9, r: 13, '0': 0, "'": 39, '"': 34, '\\': 92 };

const characterValue = (text: string): bigint =>
  BigInt(text.startsWith('\\') ? (escapes[text.slice(1)] ?? text.charCodeAt(1)) : text.charCodeAt(0));
