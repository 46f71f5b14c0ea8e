// Stops a thread after chosen ioctls only, by a perf event on their entry.
import { closeSync } from 'node:fs';
import { UserError } from '../../base/errors.ts';
import { SystemError } from './ffi.ts';
import { openTrapEvent, tracepointId } from './perfEvent.ts';

export class IoctlTap {
  private constructor(private readonly fd: number) {}

  /** `undefined` where the tracepoint or perf is not to be had: the caller then has to look at every system call. */
  static open(tid: number, requests: readonly bigint[]): IoctlTap | undefined {
    try {
      const filter = requests.map((request) => `cmd == ${request}`).join(' || ');
      return new IoctlTap(openTrapEvent(tid, tracepointId('syscalls/sys_enter_ioctl'), filter));
    } catch (thrown) {
      if (thrown instanceof UserError || thrown instanceof SystemError) return undefined;
      throw thrown;
    }
  }

  close(): void {
    closeSync(this.fd);
  }
}
