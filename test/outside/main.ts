import { up } from '../../src/lab/lab.ts';
import { kindClusters } from '../kind-clusters.ts';
import { runLabSuite } from '../lab-suite.ts';

await runLabSuite({
  name: 'outside',
  folder: import.meta.dirname,
  about: 'Asks services of a cluster of both families from outside, in each load balancer mode.',
  make: (name, { report, signal }) =>
    up({
      name,
      config: kindClusters({ name: 'us', workers: 2, networking: { ipFamily: 'dual' } }),
      install: true,
      join: false,
      report,
      signal,
    }),
});
