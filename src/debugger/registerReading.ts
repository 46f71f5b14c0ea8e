import type { RegisterValues } from '../arch/architecture.ts';
import { TargetError } from '../base/errors.ts';

/** Values by name, or why the vCPU refuses to tell: in one batch, and one by one when a register is refused, so that the
 *  others are still read. `check` throws where that would go on into the next stop. */
export async function readEach(
  read: (names: readonly string[]) => Promise<RegisterValues>,
  names: readonly string[],
  check: () => void = () => undefined,
): Promise<ReadonlyMap<string, bigint | TargetError>> {
  try {
    return await read(names);
  } catch (error) {
    if (!(error instanceof TargetError)) throw error;
  }
  const values = new Map<string, bigint | TargetError>();
  for (const name of names) {
    check();
    try {
      values.set(name, (await read([name])).get(name) ?? new TargetError('not available'));
    } catch (error) {
      if (!(error instanceof TargetError)) throw error;
      values.set(name, error);
    }
  }
  return values;
}
