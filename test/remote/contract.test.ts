/** `src/target/rsp` over QEMU's stub does what a Target must. */
import { after, before, describe, test } from 'node:test';
import { Gva } from '../../src/base/address.ts';
import { connectRemote } from '../../src/target/rsp/connect.ts';
import type { Target } from '../../src/target/target.ts';
import { contract } from '../target/contract.ts';
import { QemuStub } from './qemu.ts';

for (const cpus of [1, 2]) {
  describe(`target/rsp on QEMU with ${cpus} vCPUs`, { timeout: 120_000 }, () => {
    let qemu: QemuStub;
    let target: Target;
    before(async () => {
      qemu = await QemuStub.start({ cpus });
      target = await connectRemote({ host: '127.0.0.1', port: qemu.port }, new AbortController().signal);
    });
    after(async () => {
      await target?.detach();
      await qemu?.kill();
    });

    for (const { name, run } of contract) {
      test(name, () =>
        run({
          target,
          code: Gva(0x4010_0000n),
          data: Gva(0x4020_0000n),
          unmapped: Gva(0x1_0000_0000n),
          killed: { code: undefined, signal: undefined },
        }),
      );
    }
  });
}
