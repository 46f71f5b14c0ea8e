// Structs of real kernels: members, offsets and sizes as pahole says.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { sizeOf, stripped } from '../../src/symbols/types.ts';
import { architectures, Kernel, outputOf, seeded } from './kernel.ts';

const structs = 500;

describe('structs, against pahole', () => {
  for (const architecture of architectures) {
    test(`${structs} of ${architecture}`, async () => {
      const kernel = await Kernel.of(architecture);
      const chosen = await kernel.answer(`pahole-${structs}`, async () => {
        const bodies = (await outputOf('pahole', [kernel.vmlinux])).split(/^(?=(?:struct|union) \w+ \{)/m);
        const random = seeded(1);
        const some = new Set<string>();
        while (some.size < structs) some.add(bodies[random(bodies.length)] ?? '');
        return [...some].join('');
      });
      const image = kernel.open();
      try {
        let compared = 0;
        let members = 0;
        for (const body of chosen.split(/^(?=(?:struct|union) \w+ \{)/m)) {
          const [, name = ''] = /^struct (\w+) \{/.exec(body) ?? [];
          const type = image.typeNamed('struct', name);
          if (type === undefined) continue;
          const real = stripped(type);
          if (!('members' in real)) continue;
          const [, size = '-1'] = /\/\* size: (\d+),/.exec(body) ?? [];
          // A name may stand for several structs: the one that both chose is compared.
          if (Number(size) !== sizeOf(type)) continue;
          const theirs = [
            ...body.matchAll(/^\t[^\t}].*?(\w+)(?:\[.*\])?(?: __attribute__\(.*\))?; +\/\* +(\d+) +(\d+) \*\//gm),
          ];
          const ours = new Map(real.members.map((member) => [member.name, member]));
          for (const [, member = '', offset, bytes] of theirs) {
            const found = ours.get(member);
            assert.deepEqual(
              [found?.offset, found && sizeOf(found.type)],
              [Number(offset), Number(bytes)],
              `${name}.${member}`,
            );
            members++;
          }
          compared++;
        }
        assert.ok(compared > 0.8 * structs && members > 3 * compared, `${compared} structs, ${members} members`);
      } finally {
        image.close();
      }
    });
  }
});
