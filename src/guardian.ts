// dist/guardian.js: started by the adapter for each VMM it attaches to.
import { guard } from './target/kvm/guardian.ts';

guard().then(
  () => process.exit(0),
  (thrown: unknown) => {
    console.error(
      `kvm-debug guardian: the VMM could not be restored: ${thrown instanceof Error ? thrown.message : thrown}`,
    );
    process.exit(1);
  },
);
