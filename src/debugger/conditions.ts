import { messageOf, UserError } from '../base/errors.ts';
import { type EvaluationScope, evaluateExpression } from './evaluate.ts';
import { parseExpression, parseInput } from './expression/parser.ts';
import type { Expression, Input } from './expression/syntax.ts';
import { requireFormat, resultText } from './presentation.ts';

/** What decides, beside its address, whether a breakpoint stops. All texts are as the user wrote them. */
export interface Conditions {
  readonly condition?: string;
  readonly hitCondition?: string;
  readonly logMessage?: string;
}

/** Whether the n-th time (from 1) counts. */
export type HitCondition = (hits: number) => boolean;

type LogPart = { readonly text: string } | { readonly input: Input };

/** Whether a name is a type's: C's grammar depends on it. */
type IsType = (name: string) => boolean;

export interface ParsedConditions {
  readonly condition: Expression | undefined;
  readonly hitCondition: HitCondition | undefined;
  readonly log: readonly LogPart[] | undefined;
}

/** UserError says which of the texts does not parse and why. */
export function parseConditions(
  { condition, hitCondition, logMessage }: Conditions,
  isType: IsType = () => false,
): ParsedConditions {
  return {
    condition: condition?.trim() ? parseNamed('condition', () => parseExpression(condition, isType)) : undefined,
    hitCondition: hitCondition?.trim() ? parseHitCondition(hitCondition) : undefined,
    log: logMessage ? parseNamed('log message', () => parseLogMessage(logMessage, isType)) : undefined,
  };
}

function parseNamed<T>(what: string, parse: () => T): T {
  try {
    return parse();
  } catch (error) {
    if (error instanceof UserError) throw new UserError(`The ${what} is not valid: ${error.message}`, { cause: error });
    throw error;
  }
}

/** `3` and `== 3` the third time, `>= 3` from the third on, `% 3` every third, and so on. */
export function parseHitCondition(text: string): HitCondition {
  const match = /^\s*(>=|<=|===?|=|!=|>|<|%)?\s*(\d{1,15})\s*$/.exec(text);
  const count = Number(match?.[2]);
  if (!match || (match[1] === '%' && count === 0)) {
    throw new UserError(`The hit condition \`${text}\` is not valid: write a count such as 3, >= 3, > 3, < 3 or % 3.`);
  }
  switch (match[1]) {
    case '>=':
      return (hits) => hits >= count;
    case '>':
      return (hits) => hits > count;
    case '<=':
      return (hits) => hits <= count;
    case '<':
      return (hits) => hits < count;
    case '!=':
      return (hits) => hits !== count;
    case '%':
      return (hits) => hits % count === 0;
    default:
      return (hits) => hits === count;
  }
}

/** Text with expressions in braces; `\{` is a brace. */
function parseLogMessage(text: string, isType: IsType): readonly LogPart[] {
  const parts: LogPart[] = [];
  const pattern = /\\([{}\\])|\{([^{}]*)\}|[^\\{]+|[\\{]/g;
  for (const [whole, escaped, expression] of text.matchAll(pattern)) {
    if (expression !== undefined) {
      const input = parseInput(expression, isType);
      requireFormat(input.format);
      parts.push({ input });
    } else if (whole === '{') throw new UserError(`\`${text}\` has a { without its }; write \\{ for a brace.`);
    else parts.push({ text: escaped ?? whole });
  }
  return parts;
}

/** The text of a logpoint. What cannot be evaluated is shown in place: a logpoint does not stop the guest. */
export async function formatLog(parts: readonly LogPart[], scope: EvaluationScope): Promise<string> {
  const texts: string[] = [];
  for (const part of parts) {
    if ('text' in part) texts.push(part.text);
    else {
      texts.push(
        await evaluateExpression(part.input.expression, scope)
          .then((result) => resultText(result, scope, { format: requireFormat(part.input.format) }))
          .catch((error: unknown) => `<${messageOf(error)}>`),
      );
    }
  }
  return texts.join('');
}
