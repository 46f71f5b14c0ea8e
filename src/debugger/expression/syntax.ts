// What a parsed expression consists of. Names are not resolved: that needs a frame.

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

/** A step from a type to one derived from it, in the order in which the derivation is made. */
export type Derivation =
  | { readonly kind: 'pointer' }
  | { readonly kind: 'array'; readonly count: number | undefined }
  | { readonly kind: 'function' };

/** A type as it is written: `struct foo **`, `unsigned long [4]`, `int (*)(void)`. */
export interface TypeName {
  /** `struct`, `union` or `enum` in front of a tag; undefined for a typedef's or built-in name. */
  readonly tag: 'struct' | 'union' | 'enum' | undefined;
  readonly name: string;
  readonly derivations: readonly Derivation[];
}

/** A step into an object, as in offsetof(struct foo, a.b[3]). */
export type PathStep =
  | { readonly kind: 'member'; readonly name: string }
  | { readonly kind: 'index'; readonly index: Expression };

export type Expression =
  /** `suffix`: the letters behind the digits, lower case, which with the base decide its type (C11 6.4.4.1). */
  | { readonly kind: 'number'; readonly value: bigint; readonly decimal: boolean; readonly suffix: string }
  | { readonly kind: 'character'; readonly value: bigint }
  | { readonly kind: 'register'; readonly name: string }
  /** `where`: the file or function that a static is looked for in. */
  | { readonly kind: 'name'; readonly name: string; readonly where: string | undefined }
  | { readonly kind: 'unary'; readonly operator: UnaryOperator; readonly operand: Expression }
  | {
      readonly kind: 'binary';
      readonly operator: BinaryOperator;
      readonly left: Expression;
      readonly right: Expression;
    }
  | { readonly kind: 'conditional'; readonly test: Expression; readonly yes: Expression; readonly no: Expression }
  | { readonly kind: 'cast'; readonly type: TypeName; readonly operand: Expression }
  | { readonly kind: 'sizeofType'; readonly type: TypeName }
  | { readonly kind: 'sizeof'; readonly operand: Expression }
  | { readonly kind: 'offsetof'; readonly type: TypeName; readonly path: readonly PathStep[] }
  | {
      readonly kind: 'containerOf';
      readonly pointer: Expression;
      readonly type: TypeName;
      readonly path: readonly PathStep[];
    }
  | { readonly kind: 'member'; readonly base: Expression; readonly name: string; readonly arrow: boolean }
  | { readonly kind: 'index'; readonly base: Expression; readonly index: Expression }
  /** `base[from..to]`: elements `from` up to and without `to`. */
  | { readonly kind: 'slice'; readonly base: Expression; readonly from: Expression; readonly to: Expression }
  /** `operator`: of a compound assignment. */
  | {
      readonly kind: 'assign';
      readonly target: Expression;
      readonly value: Expression;
      readonly operator: BinaryOperator | undefined;
    };

/** A whole input: an expression, and the format that was asked for behind a comma. */
export interface Input {
  readonly expression: Expression;
  readonly format: string | undefined;
}

/** Whether evaluating it would write to the guest: an assignment may also stand in an index or in parentheses. */
export const assigns = (expression: Expression): boolean => holdsAssignment(expression);

const holdsAssignment = (node: unknown): boolean =>
  typeof node === 'object' &&
  node !== null &&
  (('kind' in node && node.kind === 'assign') || Object.values(node).some(holdsAssignment));
