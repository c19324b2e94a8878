"""`python -m services.judge`"""

from services.judge.main import main

main()
