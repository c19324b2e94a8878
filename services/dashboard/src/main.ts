import { mount } from 'svelte'
import App from './App.svelte'
import './app.css'
import { router } from './lib/router.svelte'
import { theme } from './lib/theme.svelte'

// Addresses of the page before this one named a job by the fragment: /#ftjob-...
const named = /^#(ftjob-[\w-]+)$/.exec(location.hash)?.[1]
if (location.pathname === '/' && named) history.replaceState(null, '', `/ui/jobs/${named}`)

theme.start()
router.start()
const target = document.getElementById('app')
if (target) mount(App, { target })
