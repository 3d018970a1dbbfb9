import { up } from '../../src/lab/lab.ts';
import { kindClusters } from '../kind-clusters.ts';
import { runLabSuite } from '../lab-suite.ts';

await runLabSuite({
  name: 'mirror',
  folder: import.meta.dirname,
  about: 'Two joined clusters, one of which reads the other through its mirror, under traffic.',
  make: (name, { report, signal }) =>
    up({
      name,
      // us has the mirror, and a node where it does not run.
      config: kindClusters({ name: 'us', workers: 1 }, { name: 'eu' }),
      install: true,
      join: true,
      report,
      signal,
    }),
});
