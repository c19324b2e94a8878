/** Every view: its path below /ui, its title, its place in the navigation, and its component, which is loaded when it is shown.
 *  A view has a folder of its own in src/views. The first pattern that fits is taken. */

import type { Component } from 'svelte'

export interface ViewProps {
  params: Record<string, string>
}

export interface Route {
  pattern: string
  title: string
  section: Section
  /** The component takes ViewProps, or nothing. */
  load: () => Promise<{ default: Component<any> }>
}

export type Section = 'jobs' | 'data' | 'models' | 'playground' | 'review' | 'compare' | 'spend' | 'system'

export const NAVIGATION: { section: Section; label: string; path: string }[] = [
  { section: 'jobs', label: 'Jobs', path: '/' },
  { section: 'data', label: 'Data', path: '/data' },
  { section: 'models', label: 'Models', path: '/models' },
  { section: 'playground', label: 'Playground', path: '/playground' },
  { section: 'review', label: 'Review', path: '/review' },
  { section: 'compare', label: 'Compare', path: '/compare' },
  { section: 'spend', label: 'Spend', path: '/spend' },
  { section: 'system', label: 'System', path: '/system' },
]

export const ROUTES: Route[] = [
  { pattern: '/', title: 'Jobs', section: 'jobs', load: () => import('./views/jobs/Jobs.svelte') },
  { pattern: '/jobs', title: 'Jobs', section: 'jobs', load: () => import('./views/jobs/Jobs.svelte') },
  { pattern: '/recipes', title: 'Recipes', section: 'jobs', load: () => import('./views/recipes/Recipes.svelte') },
  { pattern: '/jobs/new', title: 'New job', section: 'jobs', load: () => import('./views/new-job/NewJob.svelte') },
  { pattern: '/jobs/:id', title: 'Job', section: 'jobs', load: () => import('./views/job/Job.svelte') },
  { pattern: '/jobs/:id/examples', title: 'Examples', section: 'jobs', load: () => import('./views/examples/Examples.svelte') },
  { pattern: '/jobs/:id/examples/*example', title: 'Example', section: 'jobs', load: () => import('./views/examples/Example.svelte') },
  { pattern: '/data', title: 'Data', section: 'data', load: () => import('./views/data/Data.svelte') },
  { pattern: '/data/:id', title: 'Dataset', section: 'data', load: () => import('./views/data/Dataset.svelte') },
  { pattern: '/models', title: 'Models', section: 'models', load: () => import('./views/models/Models.svelte') },
  { pattern: '/models/:alias', title: 'Model', section: 'models', load: () => import('./views/models/Model.svelte') },
  { pattern: '/playground', title: 'Playground', section: 'playground', load: () => import('./views/playground/Playground.svelte') },
  { pattern: '/review', title: 'Review', section: 'review', load: () => import('./views/review/Review.svelte') },
  { pattern: '/compare', title: 'Compare', section: 'compare', load: () => import('./views/compare/Compare.svelte') },
  { pattern: '/spend', title: 'Spend', section: 'spend', load: () => import('./views/spend/Spend.svelte') },
  { pattern: '/system', title: 'System', section: 'system', load: () => import('./views/system/System.svelte') },
]
