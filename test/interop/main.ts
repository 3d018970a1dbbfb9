import { runLabSuite } from '../lab-suite.ts';
import { makeMixedLab } from './mixed-lab.ts';

await runLabSuite({
  name: 'interop',
  folder: import.meta.dirname,
  about: 'Joins a cluster of Isthmus with a cluster of real Cilium and tests what each sees of the other.',
  choices: [
    { option: 'max-clusters', values: ['255', '511'], help: 'size of the mesh (default 255)' },
    {
      option: 'family',
      values: ['ipv4', 'dual'],
      help: 'families of nodes, pods and services (default ipv4)',
    },
  ],
  make: (name, { chosen, report, signal }) =>
    makeMixedLab({
      name,
      maxClusters: chosen['max-clusters'] === '511' ? 511 : 255,
      family: chosen.family === 'dual' ? 'dual' : 'ipv4',
      report,
      signal,
    }),
});
