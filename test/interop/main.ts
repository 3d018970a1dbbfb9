import { runLabSuite } from '../lab-suite.ts';
import { makeMixedLab } from './mixed-lab.ts';

await runLabSuite({
  name: 'interop',
  folder: import.meta.dirname,
  about: 'Joins a cluster of Isthmus with a cluster of real Cilium and tests what each sees of the other.',
  choice: { option: 'max-clusters', values: ['255', '511'], help: 'size of the mesh (default 255)' },
  make: (name, { chosen, report, signal }) =>
    makeMixedLab({ name, maxClusters: chosen === '511' ? 511 : 255, report, signal }),
});
