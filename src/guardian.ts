// dist/guardian.js PID: started by the adapter, which has this pid, for each VMM it attaches to.
import { guard } from './target/kvm/guardian.ts';

guard(Number(process.argv[2])).then(
  () => process.exit(0),
  (thrown: unknown) => {
    console.error(
      `kvm-debug guardian: the VMM could not be restored: ${thrown instanceof Error ? thrown.message : thrown}`,
    );
    process.exit(1);
  },
);
