"""One example for each command, shown at the end of its `--help`. A test holds that every command has one that fits it."""

EXAMPLES: dict[str, str] = {
    command: example
    for command, _, example in (
        line.strip().partition(": ")
        for line in """
    up: up --data /data/meteor
    down: down
    status: status
    doctor: doctor --calls
    gc: gc --dry-run
    backup: backup /backups/meteor
    upload-artifacts: upload-artifacts --verify
    providers add: providers add ollama --model qwen3:8b
    providers list: providers list
    providers presets: providers presets
    providers remove: providers remove ollama
    providers test: providers test ollama
    providers learned: providers learned
    providers forget: providers forget ollama
    demo: demo machine-learning
    models list: models list
    models pull: models pull smollm2-135m-instruct
    models path: models path smollm2-135m-instruct
    models prompts: models prompts smollm2-135m-instruct --output prompts
    models export: models export my-shell --format adapter --format merged --out models
    models served: models served
    models show: models show my-shell@1
    models abilities: models abilities smollm2-135m-instruct
    models promote: models promote my-shell@2
    models rollback: models rollback my-shell
    models delete: models delete my-shell@1 my-shell@3
    jobs create: jobs create examples/shell.job.json --rows examples/shell.jsonl --set suffix=my-shell --watch
    jobs list: jobs list --status running
    jobs raise: jobs raise last --usd 10
    jobs fork: jobs fork last --from iterate/1 --set distillation.evolve.turns=3
    jobs estimate: jobs estimate examples/shell.job.json --rows examples/shell.jsonl
    jobs watch: jobs watch last
    jobs show: jobs show last
    jobs cancel: jobs cancel last
    jobs pause: jobs pause last
    jobs resume: jobs resume last
    jobs events: jobs events last --limit 50
    jobs metrics: jobs metrics last
    jobs checkpoints: jobs checkpoints last
    jobs examples: jobs examples last --split test
    jobs lineage: jobs lineage last row-17
    jobs outcomes: jobs outcomes last --happened failed --round 2
    jobs steps: jobs steps last --troubled
    jobs report: jobs report last --markdown
    jobs usage: jobs usage last
    report: report last --html report.html
    usage: usage last
    chat: chat my-shell -m "Count the lines of notes.txt." --compare base
    data upload: data upload rows.jsonl
    data download: data download file-... --out rows.jsonl
    data validate: data validate rows.jsonl
    data append: data append file-... more.jsonl
    data edit: data edit file-... corrected.jsonl
    data remove: data remove file-... row-17 row-40
    data versions: data versions file-...
    data diff: data diff file-...
    data rows: data rows file-... --split test
    data preview: data preview rows.csv --map question=prompt
    data list: data list
    data show: data show file-...
    data delete: data delete file-...
    data import: data import Posts.xml --site stackoverflow.com --preset paper --out rows.jsonl
    data generate: data generate "bee keeping in central Europe" --questions 200 --usd 2 --review
    data coverage: data coverage import-... --set map.json
    data watch: data watch import-... --out rows.jsonl
    data raise: data raise import-... --usd 10
    data imports: data imports
    data cancel: data cancel import-...
    data pause: data pause import-...
    data resume: data resume import-...
    experiments run: experiments run examples/shell.job.json --rows examples/shell.jsonl --preset ablation
    experiments show: experiments show exp-... --markdown
    experiments list: experiments list
    experiments cancel: experiments cancel exp-...
    labels add: labels add labels.jsonl
    labels list: labels list
    labels delete: labels delete label-...
    evals create: evals create sums.eval.json
    evals list: evals list
    evals show: evals show eval-...
    evals rename: evals rename eval-... "sums of small numbers"
    evals delete: evals delete eval-...
    evals run: evals run eval-... my-shell --rows items.jsonl
    evals runs: evals runs eval-...
    evals result: evals result eval-... evalrun-...
    evals rows: evals rows eval-... evalrun-... --status fail
    evals row: evals row eval-... evalrun-... outputitem-...
    evals cancel: evals cancel eval-... evalrun-...
    evals delete-run: evals delete-run eval-... evalrun-...
    exports fetch: exports fetch export-... --out models
    exports list: exports list
    exports show: exports show export-...
    exports cancel: exports cancel export-...
    exports pause: exports pause export-...
    exports resume: exports resume export-...
    canary set: canary set my-shell 2 --metric errors --steps 5,25,50 --promote
    canary show: canary show my-shell
    canary events: canary events my-shell
    canary end: canary end my-shell
    capture set: capture set my-shell 5 --mask
    capture show: capture show my-shell
    capture end: capture end my-shell
    completions list: completions list --model my-shell --metadata page=help
    completions show: completions show chatcmpl-...
    completions set: completions set chatcmpl-... page=help
    completions delete: completions delete chatcmpl-...
    completions dataset: completions dataset --model my-shell --feedback down --feedback corrected --since 2026-11-01
    completions forget: completions forget --user user-17 --dry-run
    feedback add: feedback add chatcmpl-... --down --correction tree
    feedback list: feedback list --rating down --model my-shell@2
    feedback show: feedback show feedback-...
    feedback delete: feedback delete feedback-...
    recipes create: recipes create weekly.json
    recipes list: recipes list
    recipes show: recipes show recipe-...
    recipes pause: recipes pause recipe-...
    recipes resume: recipes resume recipe-...
    recipes events: recipes events recipe-...
    recipes delete: recipes delete recipe-...
    keys create: keys create laptop --days 90
    keys budget: keys budget key-... --usd 40
    keys list: keys list
    keys show: keys show key-...
    keys revoke: keys revoke key-...
    projects create: projects create "search team" --jobs 2
    projects change: projects change proj_... --usd 20
    projects list: projects list
    projects show: projects show proj_...
    webhooks create: webhooks create http://127.0.0.1:9000/ --name laptop
    webhooks change: webhooks change we-... --name desktop
    webhooks rotate: webhooks rotate we-... --keep
    webhooks deliveries: webhooks deliveries we-... --state failed
    webhooks replay: webhooks replay we-... msg-...
    webhooks test: webhooks test we-...
    webhooks enable: webhooks enable we-...
    webhooks disable: webhooks disable we-...
    webhooks list: webhooks list
    webhooks show: webhooks show we-...
    webhooks delete: webhooks delete we-...
    spending: spending --by job --days 7
    system: system
    audit: audit --limit 50
    graders: graders --json
    """.strip().splitlines()
    )
}
