import type { SourceLocation } from '../symbols/image.ts';
import { debuggerOf, type RequestContext } from './context.ts';

/** The file that a client is told of for a place in the code: where the user has it, else as compiled if the configuration
 *  wants so. Undefined for what would only give an error page. */
export function shownFile(location: SourceLocation, context: RequestContext): string | undefined {
  const { paths } = debuggerOf(context);
  const isShownAnyway = context.guest?.configuration.missingSources === 'path';
  return paths.find(location) ?? (isShownAnyway ? paths.local(location) : undefined);
}
