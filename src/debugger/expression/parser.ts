// The grammar of expressions: C's (C11 6.5) without calls, increments and commas; with registers (`$x0`), statics of a
// file or function (`'slub.c'::name`, `func::name`), slices (`p[0..8]`) and formats (`,x`), which C has not.

import { createToken, EmbeddedActionsParser, EOF, type IToken, Lexer, type TokenType } from 'chevrotain';
import { UserError } from '../../base/errors.ts';
import { builtinType } from './builtinTypes.ts';
import type { BinaryOperator, Derivation, Expression, Input, PathStep, TypeName, UnaryOperator } from './syntax.ts';

const token = (name: string, pattern: RegExp | string, longerAlternative?: TokenType): TokenType =>
  createToken({ name, pattern, ...(longerAlternative === undefined ? {} : { longer_alt: longerAlternative }) });

// gcc and clang number their copies of functions behind a dot; a member of such a name has no number.
const Identifier = token('Identifier', /[A-Za-z_][\w$]*(?:\.(?:(?:isra|part|constprop|llvm|lto_priv)\.\d+|cold\b))*/);
const keyword = (text: string): TokenType => token(`Keyword_${text}`, new RegExp(text), Identifier);
const Sizeof = keyword('sizeof');
const Offsetof = keyword('offsetof');
const ContainerOf = keyword('container_of');
const Tag = token('Tag', /struct|union|enum/, Identifier);
const Qualifier = token('Qualifier', /const|volatile/, Identifier);
const TypeWord = token('TypeWord', /char|short|int|long|unsigned|signed/, Identifier);
const Register = token('Register', /\$[A-Za-z_]\w*/);
const Character = token('Character', /'(?:\\.|[^'\\])'/);
const Quoted = token('Quoted', /'[^']{2,}'/);
const NumberLiteral = token('Number', /(?:0[xX][0-9a-fA-F]+|0[bB][01]+|[0-9]+)[uUlL]*(?![\w])/);
const Scope = token('Scope', '::');
const Arrow = token('Arrow', '->');
const DotDot = token('DotDot', '..');
const Dot = token('Dot', '.');
const Comma = token('Comma', ',');
const Question = token('Question', '?');
const Colon = token('Colon', ':');
const Open = token('Open', '(');
const Close = token('Close', ')');
const OpenIndex = token('OpenIndex', '[');
const CloseIndex = token('CloseIndex', ']');
const Assign = token('Assign', /(?:<<|>>|[-+*/%&|^])?=(?!=)/);
const Binary = token('Binary', /<<|>>|<=|>=|==|!=|&&|\|\||[/%<>|^]/);
/** Binary, or unary. */
const Both = token('Both', /[-+*&]/);
const Unary = token('Unary', /[~!]/);
const Space = createToken({ name: 'Space', pattern: /\s+/, group: Lexer.SKIPPED });

const vocabulary: TokenType[] = [
  Space,
  Sizeof,
  Offsetof,
  ContainerOf,
  Tag,
  Qualifier,
  TypeWord,
  Identifier,
  Register,
  Character,
  Quoted,
  NumberLiteral,
  Scope,
  Arrow,
  DotDot,
  Dot,
  Comma,
  Question,
  Colon,
  Open,
  Close,
  OpenIndex,
  CloseIndex,
  Assign,
  Binary,
  Both,
  Unary,
];

/** From the loosest to the tightest (C11 6.5.5 to 6.5.14). */
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
const rankOf = new Map(
  precedence.flatMap((operators, rank) => operators.map((operator) => [operator as string, rank])),
);

/** Operands and the operators between them, as a tree. */
function climb(operands: readonly Expression[], operators: readonly string[]): Expression {
  const output: Expression[] = [];
  const pending: string[] = [];
  const reduce = (): void => {
    const operator = pending.pop() as BinaryOperator;
    const right = output.pop() as Expression;
    const left = output.pop() as Expression;
    output.push({ kind: 'binary', operator, left, right });
  };
  operands.forEach((operand, index) => {
    output.push(operand);
    const operator = operators[index];
    if (operator === undefined) return;
    const rank = rankOf.get(operator) ?? 0;
    while (pending.length > 0 && (rankOf.get(pending.at(-1) ?? '') ?? 0) >= rank) reduce();
    pending.push(operator);
  });
  while (pending.length > 0) reduce();
  return output[0] as Expression;
}

class ExpressionParser extends EmbeddedActionsParser {
  isType: (name: string) => boolean = () => false;

  constructor() {
    super(vocabulary, { maxLookahead: 2 });
    this.performSelfAnalysis();
  }

  readonly input_ = this.RULE('input_', (): Input => {
    const expression = this.SUBRULE(this.assignment);
    let format: string | undefined;
    this.OPTION(() => {
      this.CONSUME(Comma);
      format = this.CONSUME(Identifier).image;
    });
    return { expression, format };
  });

  readonly assignment = this.RULE('assignment', (): Expression => {
    let expression = this.SUBRULE(this.conditional);
    this.OPTION(() => {
      const { image } = this.CONSUME(Assign);
      const value = this.SUBRULE(this.assignment);
      const operator = image === '=' ? undefined : (image.slice(0, -1) as BinaryOperator);
      expression = { kind: 'assign', target: expression, value, operator };
    });
    return expression;
  });

  readonly conditional = this.RULE('conditional', (): Expression => {
    let expression = this.SUBRULE(this.binary);
    this.OPTION(() => {
      this.CONSUME(Question);
      const yes = this.SUBRULE(this.assignment);
      this.CONSUME(Colon);
      const no = this.SUBRULE2(this.conditional);
      expression = { kind: 'conditional', test: expression, yes, no };
    });
    return expression;
  });

  readonly binary = this.RULE('binary', (): Expression => {
    const operands = [this.SUBRULE(this.unary)];
    const operators: string[] = [];
    this.MANY(() => {
      const operator = this.OR([{ ALT: () => this.CONSUME(Binary) }, { ALT: () => this.CONSUME(Both) }]);
      operators.push(operator.image);
      operands.push(this.SUBRULE2(this.unary));
    });
    return this.ACTION(() => climb(operands, operators));
  });

  readonly unary = this.RULE('unary', (): Expression => {
    return this.OR<Expression>([
      {
        ALT: () => {
          const operator = this.OR2([{ ALT: () => this.CONSUME(Both) }, { ALT: () => this.CONSUME(Unary) }]);
          const operand = this.SUBRULE(this.unary);
          return { kind: 'unary', operator: operator.image as UnaryOperator, operand };
        },
      },
      {
        ALT: () => {
          this.CONSUME(Sizeof);
          return this.OR3<Expression>([
            {
              GATE: () => this.#typeFollows(),
              ALT: () => {
                this.CONSUME(Open);
                const type = this.SUBRULE(this.typeName);
                this.CONSUME(Close);
                return { kind: 'sizeofType', type };
              },
            },
            { ALT: () => ({ kind: 'sizeof', operand: this.SUBRULE2(this.unary) }) },
          ]);
        },
      },
      {
        GATE: () => this.#typeFollows(),
        ALT: () => {
          this.CONSUME2(Open);
          const type = this.SUBRULE2(this.typeName);
          this.CONSUME2(Close);
          return { kind: 'cast', type, operand: this.SUBRULE3(this.unary) };
        },
      },
      { ALT: () => this.SUBRULE(this.postfix) },
    ]);
  });

  readonly postfix = this.RULE('postfix', (): Expression => {
    let base = this.SUBRULE(this.primary);
    this.MANY(() => {
      this.OR([
        {
          ALT: () => {
            this.CONSUME(OpenIndex);
            const index = this.SUBRULE(this.assignment);
            base = { kind: 'index', base, index };
            this.OPTION(() => {
              this.CONSUME(DotDot);
              const to = this.SUBRULE2(this.assignment);
              this.ACTION(() => {
                if (base.kind === 'index') base = { kind: 'slice', base: base.base, from: index, to };
              });
            });
            this.CONSUME(CloseIndex);
          },
        },
        {
          ALT: () => {
            const operator = this.OR2([{ ALT: () => this.CONSUME(Dot) }, { ALT: () => this.CONSUME(Arrow) }]);
            const name = this.SUBRULE(this.memberName);
            base = { kind: 'member', base, name, arrow: operator.image === '->' };
          },
        },
      ]);
    });
    return base;
  });

  readonly primary = this.RULE('primary', (): Expression => {
    return this.OR<Expression>([
      { ALT: () => this.#number(this.CONSUME(NumberLiteral)) },
      { ALT: () => ({ kind: 'character', value: characterValue(this.CONSUME(Character).image) }) },
      { ALT: () => ({ kind: 'register', name: this.CONSUME(Register).image.slice(1) }) },
      { ALT: () => this.SUBRULE(this.offsetof) },
      { ALT: () => this.SUBRULE(this.containerOf) },
      {
        ALT: () => {
          const where = this.CONSUME(Quoted).image.slice(1, -1);
          this.CONSUME(Scope);
          return { kind: 'name', name: this.CONSUME(Identifier).image, where };
        },
      },
      {
        ALT: () => {
          let name = this.CONSUME2(Identifier).image;
          let where: string | undefined;
          this.OPTION(() => {
            this.CONSUME2(Scope);
            where = name;
            name = this.CONSUME3(Identifier).image;
          });
          return { kind: 'name', name, where };
        },
      },
      {
        ALT: () => {
          this.CONSUME(Open);
          const inner = this.SUBRULE(this.assignment);
          this.CONSUME(Close);
          return inner;
        },
      },
    ]);
  });

  readonly offsetof = this.RULE('offsetof', (): Expression => {
    this.CONSUME(Offsetof);
    this.CONSUME(Open);
    const type = this.SUBRULE(this.typeName);
    this.CONSUME(Comma);
    const path = this.SUBRULE(this.path);
    this.CONSUME(Close);
    return { kind: 'offsetof', type, path };
  });

  readonly containerOf = this.RULE('containerOf', (): Expression => {
    this.CONSUME(ContainerOf);
    this.CONSUME(Open);
    const pointer = this.SUBRULE(this.assignment);
    this.CONSUME(Comma);
    const type = this.SUBRULE(this.typeName);
    this.CONSUME2(Comma);
    const path = this.SUBRULE(this.path);
    this.CONSUME(Close);
    return { kind: 'containerOf', pointer, type, path };
  });

  readonly path = this.RULE('path', (): PathStep[] => {
    const steps: PathStep[] = [{ kind: 'member', name: this.SUBRULE(this.memberName) }];
    this.MANY(() => {
      this.OR([
        {
          ALT: () => {
            this.CONSUME(Dot);
            steps.push({ kind: 'member', name: this.SUBRULE2(this.memberName) });
          },
        },
        {
          ALT: () => {
            this.CONSUME(OpenIndex);
            steps.push({ kind: 'index', index: this.SUBRULE(this.assignment) });
            this.CONSUME(CloseIndex);
          },
        },
      ]);
    });
    return steps;
  });

  /** Members may have names that are words of this grammar and not of C (`offsetof`). */
  readonly memberName = this.RULE('memberName', (): string => {
    return this.OR([
      { ALT: () => this.CONSUME(Identifier) },
      { ALT: () => this.CONSUME(Offsetof) },
      { ALT: () => this.CONSUME(ContainerOf) },
    ]).image;
  });

  /** C11 6.7.7. */
  readonly typeName = this.RULE('typeName', (): TypeName => {
    let tag: TypeName['tag'];
    const words: string[] = [];
    this.MANY(() => this.CONSUME(Qualifier));
    this.OR([
      {
        ALT: () => {
          tag = this.CONSUME(Tag).image as TypeName['tag'];
          words.push(this.CONSUME(Identifier).image);
        },
      },
      { ALT: () => words.push(this.CONSUME2(Identifier).image) },
      { ALT: () => this.AT_LEAST_ONE(() => words.push(this.CONSUME(TypeWord).image)) },
    ]);
    this.MANY2(() => this.CONSUME2(Qualifier));
    const derivations = this.SUBRULE(this.abstractDeclarator);
    return { tag, name: words.join(' '), derivations };
  });

  /** What stands around the missing name of `int *(*)[4]`, innermost last. */
  readonly abstractDeclarator = this.RULE('abstractDeclarator', (): Derivation[] => {
    const derivations: Derivation[] = [];
    let inner: Derivation[] = [];
    const behind: Derivation[] = [];
    this.MANY(() => {
      const star = this.CONSUME(Both);
      this.ACTION(() => {
        if (star.image !== '*') throw new UserError(`\`${star.image}\` stands where the type's \`)\` is expected.`);
      });
      derivations.push({ kind: 'pointer' });
      this.MANY2(() => this.CONSUME(Qualifier));
    });
    this.OPTION({
      GATE: () => this.LA(2).image === '*',
      DEF: () => {
        this.CONSUME(Open);
        inner = this.SUBRULE(this.abstractDeclarator);
        this.CONSUME(Close);
      },
    });
    this.MANY3(() => {
      this.OR([
        {
          ALT: () => {
            this.CONSUME(OpenIndex);
            let count: number | undefined;
            this.OPTION2(() => {
              const text = this.CONSUME(NumberLiteral).image;
              count = this.ACTION(() => Number(numberOf(text).value));
            });
            this.CONSUME(CloseIndex);
            behind.push({ kind: 'array', count });
          },
        },
        {
          ALT: () => {
            this.CONSUME2(Open);
            this.MANY4(() => {
              this.SUBRULE(this.typeName);
              this.OPTION3(() => this.CONSUME(Comma));
            });
            this.CONSUME2(Close);
            behind.push({ kind: 'function' });
          },
        },
      ]);
    });
    // `(*)[2][3]`: an array of 2 arrays of 3, that is, the last is made first.
    return this.ACTION(() => [...derivations, ...behind.reverse(), ...inner]);
  });

  #number(literal: IToken): Expression {
    return this.ACTION(() => numberOf(literal.image)) ?? { kind: 'number', value: 0n, decimal: true, suffix: '' };
  }

  /** Whether `(` and the name of a type come next: C tells a cast from an operand by what names mean (6.5.4). */
  #typeFollows(): boolean {
    const [open, next] = [this.LA(1), this.LA(2)];
    if (open.tokenType !== Open) return false;
    if (next.tokenType === Tag || next.tokenType === Qualifier || next.tokenType === TypeWord) return true;
    if (next.tokenType !== Identifier) return false;
    if (builtinType(next.image) !== undefined) return true;
    // `(name *)` and `(name) 1` can be nothing else than casts, whatever the name means.
    if (this.#starsUpToClose(3)) return true;
    const behind = this.LA(4).tokenType;
    const operand = [Identifier, Register, NumberLiteral, Character, Unary, Quoted, Sizeof, ContainerOf, Offsetof];
    if (this.LA(3).tokenType === Close && operand.includes(behind)) return true;
    return this.isType(next.image);
  }

  #starsUpToClose(from: number): boolean {
    let at = from;
    while (this.LA(at).image === '*') at++;
    return at > from && this.LA(at).tokenType === Close;
  }
}

/** C11 6.4.4.1. */
function numberOf(text: string): Expression & { kind: 'number' } {
  const [, digits = '', suffix = ''] = /^(.*?)([uUlL]*)$/.exec(text) ?? [];
  const octal = /^0[0-9]+$/.test(digits);
  if (octal && /[89]/.test(digits)) throw new UserError(`\`${digits}\` is no octal number.`);
  const value = BigInt(octal ? `0o${digits.slice(1)}` : digits);
  if (value >= 1n << 64n) throw new UserError(`\`${digits}\` is wider than 64 bits.`);
  return { kind: 'number', value, decimal: /^[1-9]/.test(digits), suffix: suffix.toLowerCase() };
}

const escapes: Readonly<Record<string, number>> = { n: 10, t: 9, r: 13, '0': 0, a: 7, b: 8, f: 12, v: 11 };

function characterValue(image: string): bigint {
  const text = image.slice(1, -1);
  return BigInt(text.startsWith('\\') ? (escapes[text[1] ?? ''] ?? text.charCodeAt(1)) : text.charCodeAt(0));
}

// A hostile or mistyped expression must not exhaust the stack.
const lengthLimit = 4096;
const depthLimit = 200;

const lexer = new Lexer(vocabulary, { positionTracking: 'onlyOffset' });
const parser = new ExpressionParser();

const syntaxError = (text: string, offset: number, what: string): UserError =>
  new UserError(`Cannot parse \`${text}\`: ${what} at column ${offset + 1}.`);

/** Parses one expression. `isType` tells of a name that is no built-in type's whether it is one. UserError with the column
 *  when the text is no expression. */
export function parseInput(text: string, isType: (name: string) => boolean = () => false): Input {
  if (text.length > lengthLimit) throw new UserError(`The expression is longer than ${lengthLimit} characters.`);
  const { tokens, errors } = lexer.tokenize(text);
  const [bad] = errors;
  if (bad) throw syntaxError(text, bad.offset, `\`${text[bad.offset]}\` is not understood`);
  limitDepth(tokens);
  parser.input = tokens;
  parser.isType = isType;
  const input = parser.input_();
  const [error] = parser.errors;
  if (!error) return input;
  const { tokenType, image, startOffset } = error.token;
  const found = tokenType === EOF ? 'the expression ends where' : `\`${image}\` stands where`;
  const offset = tokenType === EOF ? text.length : startOffset;
  throw syntaxError(text, offset, `${found} ${expected(error.message)} is expected`);
}

export const parseExpression = (text: string, isType?: (name: string) => boolean): Expression => {
  const { expression, format } = parseInput(text, isType);
  if (format !== undefined) throw new UserError(`\`${text}\`: a format such as \`,${format}\` has no meaning here.`);
  return expression;
};

function limitDepth(tokens: readonly IToken[]): void {
  let depth = 0;
  let run = 0;
  for (const { tokenType } of tokens) {
    if (tokenType === Open || tokenType === OpenIndex || tokenType === Question) depth++;
    if (tokenType === Close || tokenType === CloseIndex) depth--;
    run = tokenType === Both || tokenType === Unary || tokenType === Assign ? run + 1 : run;
    if (depth > depthLimit || run > depthLimit) throw new UserError('The expression is nested too deeply.');
  }
}

/** What the parser wanted, in the words of its grammar's user. */
function expected(message: string): string {
  if (message.includes('--> Close <--')) return '`)`';
  if (message.includes('--> CloseIndex <--')) return '`]`';
  if (message.includes('--> Colon <--')) return '`:`';
  if (message.includes('--> Identifier <--')) return 'a name';
  return 'a value or an operator';
}
